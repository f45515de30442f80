/**
 * By hand: `node services/index/measure.testing.ts [instances] [batch]`. Folds synthetic CT studies with real headers through the real
 * writer and says what an instance costs: CPU, bytes of each table, and how the rate holds as the index grows.
 */
import { hash } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestOf } from '#dicom/digest.ts';
import { type Entry, TableOfContents } from '#proto/storage/v1/log.ts';
import { openIndex, prepareIndex } from './adapters/sqlite/schema.ts';
import { settle } from './adapters/sqlite/settling.ts';
import { IndexWriter } from './adapters/sqlite/writer.ts';
import { describe } from './fold/describe.ts';
import { makeInstance } from './instances.testing.ts';

const total = Number(process.argv[2] ?? 100_000);
const perCommit = Number(process.argv[3] ?? 16);
const COMMITS_PER_FOLD = Number(process.argv[4] ?? 1);
const SERIES_PER_STUDY = 3;
const PER_SERIES = 150;
const directory = mkdtempSync(join(tmpdir(), 'gantry-measure-'));
const path = join(directory, 'index.sqlite');
const db = openIndex(path);
prepareIndex(db, { policy: 'keep-first' });
const writer = new IndexWriter(db, { policy: 'keep-first', describe });
const lane = '01JD3Z5X0000000000000000AA';
const say = (text: string): void => void process.stdout.write(`${text}\n`);

let offset = 0;
function entryOf(i: number): Entry {
  // Four associations at once, as from four scanners.
  const perStudy = SERIES_PER_STUDY * PER_SERIES;
  const group = Math.floor(i / (perStudy * 4));
  const within = i % (perStudy * 4);
  const study = group * 4 + (within % 4);
  const k = Math.floor(within / 4);
  const series = Math.floor(k / PER_SERIES);
  const n = (k % PER_SERIES) + 1;
  const root = `1.2.840.113619.2.55.3.604688119.971.${1_700_000_000 + study}`;
  const { instance, file } = makeInstance({
    study: `${root}.1`,
    series: `${root}.2.${series}`,
    sop: `${root}.3.${series}.${n}.${hash('sha1', String(i), 'buffer').readUInt16BE(0)}`,
    number: n,
    patientId: `P${study}`,
    patientName: `Name${study}^First`,
    accession: `A${study}`,
  });
  const length = 524_000 + ((i * 7919) % 900);
  offset += length + 512;
  instance.place = {
    object: `log/main/${lane}/${String(Math.floor(i / 500)).padStart(12, '0')}.tar`,
    offset: offset % 268_435_456,
    length,
    encoding: 0,
  };
  instance.version = hash('sha256', `v${i}`, 'buffer');
  instance.digest = digestOf(file.subarray(0, instance.dataSetOffset), instance.version);
  const stamp = (1_790_000_000_000 + i * 2).toString(16).padStart(12, '0') + '0000';
  return { n: i % perCommit, stamp, kind: { $case: 'instance', value: instance } };
}

let folded = 0;
let sequence = 0;
let cpu = 0;
let lastCpu = 0;
let last = 0;
while (folded < total) {
  const commits = [];
  for (let c = 0; c < COMMITS_PER_FOLD && folded < total; c++) {
    const entries = Array.from({ length: perCommit }, () => entryOf(folded++));
    sequence++;
    commits.push({
      lane,
      sequence,
      tableOfContents: TableOfContents.encode({ formatVersion: 1, tenant: 'main', lane, sequence, entries }).finish(),
    });
  }
  const before = process.cpuUsage();
  writer.fold('main', commits);
  const used = process.cpuUsage(before);
  cpu += (used.user + used.system) / 1000;
  if (folded - last >= total / 10 || folded >= total) {
    say(`${folded} instances: ${((cpu - lastCpu) / (folded - last)).toFixed(3)} ms CPU an instance`);
    last = folded;
    lastCpu = cpu;
  }
}
// As settling does: heads go, blocks are joined.
for (const row of db.prepare('SELECT id FROM studies').all()) {
  const series = db.prepare('SELECT id AS series, revision FROM series WHERE study = ?').all(row.id as number) as {
    series: number;
    revision: number;
  }[];
  settle(
    db,
    {
      study: row.id as number,
      series: series.map((one) => ({ ...one, metadata: '', headsThrough: Number.MAX_SAFE_INTEGER })),
    },
    writer,
  );
}
let sum = 0;
for (const row of db
  .prepare('SELECT name, sum(pgsize) AS bytes, sum(unused) AS unused FROM dbstat GROUP BY name ORDER BY bytes DESC')
  .all()) {
  sum += row.bytes as number;
  if ((row.bytes as number) / total > 0.3)
    say(
      `  ${String(row.name).padEnd(24)} ${((row.bytes as number) / total).toFixed(1)} bytes an instance (${((row.unused as number) / total).toFixed(1)} of them unused)`,
    );
}
say(
  `${(sum / total).toFixed(1)} bytes an instance in all rows, ${SERIES_PER_STUDY} series of ${PER_SERIES} a study; file ${(statSync(path).size / total).toFixed(1)}`,
);
db.close();
rmSync(directory, { recursive: true });
