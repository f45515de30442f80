import { hash } from 'node:crypto';
import fc from 'fast-check';
import { Entry, type EntryId, type Instance, TableOfContents } from '#proto/storage/v1/log.ts';
import type { Describe, RawCommit } from './commit.ts';
import type { JsonAttributes } from './types.ts';

/** Random histories of a small hospital, for the tests of the fold. Headers are JSON here: the fold does not read them itself. */
const LANES = ['01AAAAAAAAAAAAAAAAAAAAAAAA', '01BBBBBBBBBBBBBBBBBBBBBBBB', '01CCCCCCCCCCCCCCCCCCCCCCCC'] as const;
const sha = (text: string): Buffer => hash('sha256', text, 'buffer');

export const describeFake: Describe = (instance) => JSON.parse(Buffer.from(instance.head).toString());

export interface FakeInstance {
  study: string;
  series: string;
  sop: string;
  bytes: number; // which bytes: another number, another version
  syntax?: string;
  patientId?: string;
  issuer?: string;
  patientName?: string;
  accession?: string;
  modality?: string;
}

export function fakeInstance(one: FakeInstance, place: { object: string; offset: number; length: number }): Instance {
  const element = (vr: string, value: string | undefined): { vr: string; Value?: unknown[] } =>
    value === undefined || value === '' ? { vr } : { vr, Value: [vr === 'PN' ? { Alphabetic: value } : value] };
  const attributes: JsonAttributes = {
    '00080016': element('UI', '1.2.840.10008.5.1.4.1.1.2'),
    '00080020': element('DA', `202601${String(10 + (one.bytes % 3))}`),
    '00080050': element('SH', one.accession),
    '00080060': element('CS', one.modality),
    '00100010': element('PN', one.patientName),
    '00100020': element('LO', one.patientId),
    '00100021': element('LO', one.issuer),
  };
  const syntax = one.syntax ?? '1.2.840.10008.1.2.1';
  return {
    studyInstanceUid: one.study,
    seriesInstanceUid: one.series,
    sopInstanceUid: one.sop,
    sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
    transferSyntaxUid: syntax,
    version: sha(`${syntax} ${one.study} ${one.series} ${one.sop} ${one.bytes}`),
    digest: sha(`${syntax} ${one.sop} ${one.bytes} ${place.object}`),
    place: { ...place, encoding: 0 },
    dataSetOffset: 300 + one.bytes,
    head: Buffer.from(
      JSON.stringify({
        attributes,
        instanceNumber: one.sop.slice(-1),
        numberOfFrames: 0,
        rows: 4,
        columns: 4,
        bitsAllocated: 8,
      }),
    ),
    source: { door: 'DIMSE', callingAeTitle: 'CT', calledAeTitle: 'GANTRY', address: '::1', defaultCharset: '' },
  };
}

type Kind = NonNullable<Entry['kind']>;
export const stampOf = (ms: number, counter = 0): string =>
  ms.toString(16).padStart(12, '0') + counter.toString(16).padStart(4, '0');
export const commitOf = (
  lane: string,
  sequence: number,
  entries: { ms: number; kind: Kind | undefined }[],
): RawCommit => ({
  lane,
  sequence,
  tableOfContents: TableOfContents.encode({
    formatVersion: 1,
    tenant: 'main',
    lane,
    sequence,
    entries: entries.map(({ ms, kind }, n) => Entry.fromPartial({ n, stamp: stampOf(ms, n), kind })),
  }).finish(),
});

const step = fc.record({
  what: fc.constantFrom(
    'store',
    'store',
    'store',
    'store',
    'store',
    'delete',
    'restore',
    'purge',
    'move',
    'drop',
    'overlay',
    'hold',
    'decide',
    'merge',
  ),
  lane: fc.nat(2),
  study: fc.nat(2),
  series: fc.nat(1),
  sop: fc.nat(4),
  bytes: fc.nat(2),
  syntax: fc.constantFrom(undefined, undefined, '1.2.840.10008.1.2.4.90'),
  patient: fc.nat(3),
  other: fc.nat(3),
  pick: fc.array(fc.nat(200), { minLength: 1, maxLength: 3 }),
  /** The entry may name entries of commits that come later: clocks of lanes differ. */
  ms: fc.integer({ min: 1000, max: 1030 }),
  level: fc.nat(2),
  joined: fc.boolean(), // in the commit before it
});

const PATIENTS = [
  { patientId: 'A1', issuer: '', patientName: 'DOE^JANE' },
  { patientId: 'A1', issuer: 'HOSP', patientName: 'Doe^Jane' },
  { patientId: 'B2', issuer: '', patientName: 'ROE^RICHARD' },
  { patientId: '', issuer: '', patientName: '' },
];

export const history: fc.Arbitrary<RawCommit[]> = fc.array(step, { minLength: 1, maxLength: 40 }).map((steps) => {
  const next = [1, 1, 1];
  const open: { lane: number; entries: { ms: number; kind: Kind }[] }[] = [];
  for (const one of steps) {
    const last = open.at(-1);
    if (!one.joined || !last || last.lane !== one.lane) open.push({ lane: one.lane, entries: [] });
    open.at(-1)!.entries.push({ ms: one.ms, kind: { $case: 'closed', value: { reason: '', by: '' } } });
  }
  const ids: EntryId[] = [];
  const cells: { commit: number; n: number }[] = [];
  const sequences = open.map(({ lane }) => next[lane]!++);
  open.forEach((commit, index) => {
    commit.entries.forEach((_, n) => {
      ids.push({ lane: LANES[commit.lane]!, sequence: sequences[index]!, n });
      cells.push({ commit: index, n });
    });
  });
  const uid = (study: number, ...more: number[]) => ['1.2', study + 1, ...more.map((one) => one + 1)].join('.');
  const storedIn = new Map<number, string>(); // step → study
  steps.forEach((one, index) => {
    if (one.what === 'store') storedIn.set(index, uid(one.study));
  });
  steps.forEach((one, index) => {
    const named = [...new Set(one.pick.map((pick) => pick % steps.length))];
    const studyInstanceUid = named.map((at) => storedIn.get(at)).find((study) => study !== undefined) ?? uid(one.study);
    const entries = named.map((at) => ids[at]!);
    const place = (object: string) => ({ object, offset: index * 1000, length: 500 + one.bytes, encoding: 0 });
    const kind = ((): Kind => {
      switch (one.what) {
        case 'store':
          return {
            $case: one.level === 2 ? 'large' : 'instance',
            value: fakeInstance(
              {
                study: uid(one.study),
                series: uid(one.study, one.series),
                sop: uid(9, one.sop),
                bytes: one.bytes,
                ...(one.syntax ? { syntax: one.syntax } : {}),
                ...PATIENTS[one.patient]!,
                accession: `ACC${one.bytes}`,
                modality: one.bytes === 0 ? '' : 'CT',
              },
              place(`log/main/${ids[index]!.lane}`),
            ),
          };
        case 'delete':
        case 'purge':
          return {
            $case: 'delete',
            value: { entries, studyInstanceUid, reason: 'test', actor: 'a', purge: one.what === 'purge' },
          };
        case 'restore':
          return { $case: 'restore', value: { entries, studyInstanceUid, actor: 'a' } };
        case 'move':
          return {
            $case: 'moved',
            value: {
              studyInstanceUid,
              dropped: [],
              moves: entries.map((entry, n) => ({ entry, from: place('log/old'), to: place(`pack/${index}/${n}`) })),
            },
          };
        case 'drop':
          return { $case: 'moved', value: { studyInstanceUid, moves: [], dropped: entries.slice(0, 1) } };
        case 'overlay': {
          const json = {
            '00100010': { vr: 'PN', Value: [{ Alphabetic: `RIGHT^${one.bytes}` }] },
            __proto__x: { vr: 'LO' },
          };
          return {
            $case: 'overlay',
            value: {
              studyInstanceUid,
              seriesInstanceUid: one.level > 0 ? uid(one.study, one.series) : '',
              sopInstanceUid: one.level > 1 ? uid(9, one.sop) : '',
              dataSetJson: Buffer.from(JSON.stringify(json)),
              reason: '',
              actor: '',
            },
          };
        }
        case 'hold':
          return { $case: 'hold', value: { studyInstanceUid, on: one.bytes > 0, reason: '', actor: '' } };
        case 'decide':
          return {
            $case: 'decision',
            value: { subject: studyInstanceUid, entries, verdict: one.bytes > 0 ? 'show' : 'hide', actor: '' },
          };
        default: {
          const from = PATIENTS[one.patient]!;
          const to = PATIENTS[one.other]!;
          return {
            $case: 'identity',
            value: {
              kind: 'merge',
              fromPatient: from.patientId,
              fromIssuer: from.issuer,
              toPatient: to.patientId,
              toIssuer: to.issuer,
              actor: '',
            },
          };
        }
      }
    })();
    const cell = cells[index]!;
    open[cell.commit]!.entries[cell.n] = { ms: one.ms, kind };
  });
  return open.map(({ lane, entries }, index) => commitOf(LANES[lane]!, sequences[index]!, entries));
});

/** Lane by lane in sequence, but interleaved in any way: all that a reader of the log may see. */
export const interleave = (commits: RawCommit[], choices: number[]): RawCommit[] => {
  const lanes = [...Map.groupBy(commits, (one) => one.lane).values()].map((one) => [...one]);
  const mixed: RawCommit[] = [];
  let turn = 0;
  while (lanes.some((lane) => lane.length > 0)) {
    const waiting = lanes.filter((lane) => lane.length > 0);
    mixed.push(waiting[(choices[turn++ % Math.max(1, choices.length)] ?? 0) % waiting.length]!.shift()!);
  }
  return mixed;
};
