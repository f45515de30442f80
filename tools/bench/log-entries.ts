// Entries of the log by the number, with headers as long as a scanner's (some 90 attributes): what the index folds, without the pixels.
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { digestOf } from '#dicom/digest.ts';
import { type Entry, TableOfContents } from '../../proto/gen/gantry/storage/v1/log.ts';
import type { RawCommit } from '../../services/index/fold/commit.ts';
import { type Made, makeInstance } from '../../services/index/instances.testing.ts';

export const TENANT = 'main';
const LANE = '01JD3Z5X0000000000000000AA';
const ROOT = '1.2.840.113619.2.55.3.604688119.971';
const FAMILIES = ['DOE', 'SMITH', 'MÜLLER', 'GARCIA', 'YAMADA', 'ROE', 'BROWN', 'JONES', 'MEYER', 'KOWALSKI'];
const MODALITIES = ['CT', 'MR', 'US', 'CR', 'DX', 'MG', 'PT', 'XA'];

const text = (vr: string, ...Value: (string | number)[]) => ({ vr, Value });

/** What a CT says besides; some of it changes from slice to slice. */
function scanner(slice: number): NonNullable<Made['more']> {
  const second = `${101_500 + (slice % 45)}.${String((slice * 7_919) % 1_000_000).padStart(6, '0')}`;
  return {
    '00080008': text('CS', 'ORIGINAL', 'PRIMARY', 'AXIAL'),
    '00080012': text('DA', '20260102'),
    '00080013': text('TM', second),
    '00080021': text('DA', '20260102'),
    '00080022': text('DA', '20260102'),
    '00080023': text('DA', '20260102'),
    '00080031': text('TM', '101459.120000'),
    '00080032': text('TM', second),
    '00080033': text('TM', second),
    '00080080': text('LO', 'General Hospital of the Measured City'),
    '00080081': text('ST', '1 Hospital Street, 12345 Measured City'),
    '00081010': text('SH', 'CT2SCANNER'),
    '00081040': text('LO', 'Radiology'),
    '00081070': text('PN'),
    '00081090': text('LO', 'Model 64 Plus'),
    '00101010': text('AS', '056Y'),
    '00101030': text('DS', 78),
    '00180015': text('CS', 'CHEST'),
    '00180022': text('CS', 'HELICAL MODE'),
    '00180050': text('DS', '1.25'),
    '00180060': text('DS', '120'),
    '00180090': text('DS', '500.0'),
    '00181000': text('LO', '000000123456CT2'),
    '00181020': text('LO', 'gmp_vct.42', 'release 4.1'),
    '00181030': text('LO', '5.8 CHEST ROUTINE ADULT'),
    '00181100': text('DS', '360.0'),
    '00181110': text('DS', '949.075'),
    '00181111': text('DS', '541.0'),
    '00181120': text('DS', '0.0'),
    '00181130': text('DS', '152.5'),
    '00181140': text('CS', 'CW'),
    '00181150': text('IS', '500'),
    '00181151': text('IS', String(180 + ((slice * 37) % 260))),
    '00181152': text('IS', String(9 + (slice % 13))),
    '00181160': text('SH', 'BODY FILTER'),
    '00181170': text('IS', '48000'),
    '00181190': text('DS', '1.2'),
    '00181210': text('SH', 'STANDARD'),
    '00185100': text('CS', 'FFS'),
    '00189305': text('FD', 0.5),
    '00189306': text('FD', 0.625),
    '00189307': text('FD', 40),
    '00189309': text('FD', 39.37),
    '00189310': text('FD', 78.74),
    '00189311': text('FD', 0.984375),
    '00200012': text('IS', '1'),
    '00200037': text('DS', '1.0', '0.0', '0.0', '0.0', '1.0', '0.0'),
    '00200052': text('UI', `${ROOT}.5.1`),
    '00201002': text('IS', '150'),
    '00201040': text('LO', 'SN'),
    '00201041': text('DS', (-187.5 + slice * 1.25).toFixed(3)),
    '00280030': text('DS', '0.976562', '0.976562'),
    '00280106': text('SS', -2000),
    '00280107': text('SS', 1_200 + ((slice * 97) % 1_500)),
    '00280120': text('SS', -2000),
    '00281050': text('DS', '40'),
    '00281051': text('DS', '400'),
    '00281052': text('DS', '-1024'),
    '00281053': text('DS', '1'),
    '00281054': text('LO', 'HU'),
    '00321060': text('LO', 'CT CHEST WITHOUT CONTRAST'),
    '00400244': text('DA', '20260102'),
    '00400245': text('TM', '101400.000000'),
    '00400253': text('SH', '1234567'),
    '00400254': text('LO', 'CT CHEST WITHOUT CONTRAST'),
  };
}

/** `ct`: three series of 150 a study, four scanners at once. `plain`: one instance a study, whose patient, name and date vary. */
export type Shape = 'ct' | 'plain';
const PER_SERIES = 150;
const AT_ONCE = 4;
const PER_STUDY = 3 * PER_SERIES;

function madeOf(shape: Shape, i: number): { made: Made; bytes: number } {
  if (shape === 'ct') {
    const within = i % (PER_STUDY * AT_ONCE);
    const study = Math.floor(i / (PER_STUDY * AT_ONCE)) * AT_ONCE + (within % AT_ONCE);
    const series = Math.floor(within / AT_ONCE / PER_SERIES);
    const number = (Math.floor(within / AT_ONCE) % PER_SERIES) + 1;
    const root = `${ROOT}.${1_700_000_000 + study}`;
    const made = {
      study: `${root}.1`,
      series: `${root}.2.${series}`,
      // Scanners count on, but not by one.
      sop: `${root}.3.${series}.${number}.${hash('sha1', String(i), 'buffer').readUInt16BE(0)}`,
      number,
      patientId: `P${study}`,
      patientName: `Name${study}^First`,
      accession: `A${study}`,
      more: scanner(number),
    };
    return { made, bytes: 524_000 + ((i * 7919) % 900) };
  }
  const root = `${ROOT}.${1_900_000_000 + i}`;
  const day = new Date(Date.UTC(2010, 0, 1) + ((i * 104_729) % 5_800) * 86_400_000);
  const made = {
    study: `${root}.1`,
    series: `${root}.2`,
    sop: `${root}.3`,
    patientId: patientIdOf(i),
    patientName: `${FAMILIES[i % 10]}${(i * 7_919) % 5_000}^PAT${i % 977}`,
    accession: `ACC${i}`,
    modality: MODALITIES[i % 8]!,
    more: {
      '00080020': text('DA', day.toISOString().slice(0, 10).replaceAll('-', '')),
      '00080030': text('TM', `${String(i % 24).padStart(2, '0')}1500`),
      '00081030': text('LO', `CHEST ${i % 100}`),
      '00200010': text('SH', String(i)),
    },
  };
  return { made, bytes: 12_000_000 };
}
/** When instance `i` was stored: 500 a second. */
export const msOf = (i: number): number => 1_790_000_000_000 + i * 2;
/** Two studies a patient. */
export const patientIdOf = (i: number): string => `P${i >> 1}`;

/** The log from its beginning: instance by instance, `perCommit` of them a commit. */
export class MadeLog {
  readonly #shape: Shape;
  readonly #perCommit: number;
  made = 0;
  #sequence = 0;
  #offset = 0;

  constructor(shape: Shape, perCommit: number) {
    this.#shape = shape;
    this.#perCommit = perCommit;
  }

  commits(count: number, until: number): RawCommit[] {
    const commits: RawCommit[] = [];
    while (commits.length < count && this.made < until) {
      const entries: Entry[] = [];
      while (entries.length < this.#perCommit && this.made < until) entries.push(this.#entry(entries.length));
      const toc = { formatVersion: 1, tenant: TENANT, lane: LANE, sequence: ++this.#sequence, entries };
      commits.push({ lane: LANE, sequence: toc.sequence, tableOfContents: TableOfContents.encode(toc).finish() });
    }
    return commits;
  }

  #entry(n: number): Entry {
    const i = this.made++;
    const { made, bytes } = madeOf(this.#shape, i);
    const { instance, file } = makeInstance(made);
    this.#offset += bytes + 512;
    const object = `log/${TENANT}/${LANE}/${String(Math.floor(i / 500)).padStart(16, '0')}.tar`;
    instance.place = { object, offset: this.#offset % 268_435_456, length: bytes, encoding: 0 };
    // As if the pixels were there.
    instance.version = hash('sha256', `v${i}`, 'buffer');
    instance.digest = digestOf(file.subarray(0, instance.dataSetOffset), instance.version);
    const stamp = `${msOf(i).toString(16).padStart(12, '0')}0000`;
    return { n, stamp, kind: { $case: 'instance', value: instance } };
  }
}

/** The same, made by a thread of its own. */
export class LogBeside {
  readonly #worker: Worker;
  made = 0;
  constructor(shape: Shape, perCommit: number) {
    this.#worker = new Worker(new URL('./log-entries.worker.ts', import.meta.url), {
      workerData: { shape, perCommit },
    });
  }
  async commits(count: number, until: number): Promise<RawCommit[]> {
    this.#worker.postMessage({ count, until });
    const [{ commits, made }] = (await once(this.#worker, 'message')) as [{ commits: RawCommit[]; made: number }];
    this.made = made;
    return commits;
  }
  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}
