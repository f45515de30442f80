/**
 * `node tools/bench/scale.ts` writes the sections Elasticsearch, SQLite and The model of 10^9 of SCALE.md: what was measured, and what follows from it.
 * Change MEASURED after a run of index-fold.ts, index-search.ts or objects.ts, PRICES and ASSUMED for a place of one's own.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { ASSUMED, MEASURED, PRICES } from './scale-figures.ts';

const FILE = new URL('./SCALE.md', import.meta.url);
export const SECTIONS = ['Elasticsearch', 'SQLite', 'The model of 10^9'] as const;
type Section = (typeof SECTIONS)[number];

const YEAR_MONTHS = 12;
const YEAR_SECONDS = 365 * 86_400;
const GB = 1e9;

const table = (columns: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [columns, columns.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
/** Three digits say all that such figures can. */
function round(n: number): string {
  if (n === 0) return '0';
  const three = Number(n.toPrecision(3));
  return Math.abs(three) >= 1_000 ? three.toLocaleString('en-US') : String(three);
}
const euros = (n: number): string => `${round(n)} €`;

function fold(runs: typeof MEASURED.elasticsearch.fold): string {
  return table(
    [
      'studies',
      'commits a fold',
      'fold: CPU of the index role',
      'a core folds',
      'fold: CPU of the server',
      'settling: CPU of the index role',
      'settling: CPU of the server',
      'bytes an instance, as it lies',
      'merged',
      'metadata object',
      'load average',
    ],
    runs.map((one) => [
      one.what,
      one.commits,
      `${one.foldUs} µs`,
      `${round(1e6 / one.foldUs)}/s`,
      one.foldServerUs === 0 ? '–' : `${one.foldServerUs} µs`,
      one.settleUs === 0 ? 'not run' : `${one.settleUs} µs`,
      one.settleUs === 0 || one.foldServerUs === 0 ? '–' : `${one.settleServerUs} µs`,
      one.bytes,
      one.merged,
      one.metadata || '–',
      one.load,
    ]),
  );
}

function elasticsearch(): string {
  const { aims, fold: runs, search } = MEASURED.elasticsearch;
  return `Elasticsearch 9.5.3 (tools/servers: one node, 2 GB of heap, serial collector, full JIT, security off), no replica, one shard; the log is
made by a thread of its own, with headers of some 90 attributes (2.2 kB). ${MEASURED.when}; two cores shared with up to
50 other processes, so CPU, not rates. \`node tools/bench/index-fold.ts\`, \`index-search.ts\`.

${table(['aim', 'measured', 'met'], aims)}

### Folding and settling, an instance

${fold(runs)}

CPU of short runs is high: a fifth to a third of the server's is its compiler, and our own is young for the first 20,000 instances.

### Questions about ${search.studies.toLocaleString('en-US')} studies, ms

${search.note}

${table(
  ['question', ...search.columns],
  search.rows.map((row) => [row.what, ...row.values]),
)}

### What was tried

${MEASURED.elasticsearch.tried.map((line) => `- ${line}`).join('\n')}`;
}

function sqlite(): string {
  return `The control: the same log, the same fold, one file (${MEASURED.when}).

${fold(MEASURED.sqlite.fold)}

${MEASURED.sqlite.note}`;
}

interface Case {
  name: string;
  /** Instances a study, and a commit's share: PUTs an instance as it comes. */
  perStudy: number;
  puts: number;
  keeper: { put: number; get: number; list: number };
  objects: number;
  indexBytes: number;
  metadataBytes: number;
  documents: number;
  foldUs: number;
  settleUs: number;
}

const PACKS_MEASURED = 0.01;

function cases(): Case[] {
  const { ct, plain } = MEASURED.model;
  const { s3 } = MEASURED;
  const of = (name: string, shape: typeof ct, requests: (typeof s3)['32 associations']): Case => ({
    name,
    perStudy: shape.perStudy,
    puts: requests.put,
    // One pack a study; studies of 100 were measured.
    keeper: { ...requests.keeper, put: requests.keeper.put + 1 / shape.perStudy - PACKS_MEASURED },
    objects: requests.logObjects + 1 / shape.perStudy,
    indexBytes: shape.indexBytes,
    metadataBytes: shape.metadataBytes,
    documents: shape.documents,
    foldUs: shape.foldUs,
    settleUs: shape.settleUs,
  });
  return [
    of('32 associations at once, CT', ct, s3['32 associations']),
    of('4 associations at once, CT', ct, s3['4 associations']),
    of('one association at a time, CT', ct, s3['1 association']),
    of('one association a day, CT', ct, s3['1 association a day']),
    of('one association at a time, one instance a study', plain, s3['1 association']),
  ];
}

function model(): string {
  const { instances, bytes, years, replicas, indexHeadroom } = ASSUMED;
  const yearly = instances / years;
  const rows = cases().map((one) => {
    const puts = yearly * (one.puts + one.keeper.put + one.keeper.list);
    const gets = yearly * one.keeper.get;
    const requests = (puts / 1_000) * PRICES.put1000 + (gets / 1_000) * PRICES.get1000;
    const archive = ((instances * bytes) / GB) * PRICES.gbMonth * YEAR_MONTHS;
    const index = (instances * (one.indexBytes + one.metadataBytes) * (1 + replicas) * indexHeadroom) / GB;
    const cores = (yearly / YEAR_SECONDS) * ((one.foldUs + one.settleUs) / 1e6) * ASSUMED.peak;
    return { one, puts, gets, requests, archive, index, indexCost: index * PRICES.diskGbMonth * YEAR_MONTHS, cores };
  });
  const [first] = rows;
  return `${round(instances)} instances of ${round(bytes / 1e6)} MB (${round((instances * bytes) / 1e15)} PB) stand in the archive, and ${years} years brought them:
${round(yearly)} a year, ${round(yearly / YEAR_SECONDS)} a second on average, ${round((yearly / YEAR_SECONDS) * ASSUMED.peak)} at the peak (× ${ASSUMED.peak}).
Prices: ${PRICES.source}.

${table(
  [
    'how they come',
    'requests that write, a year',
    'of them the keeper’s',
    'GETs a year',
    'objects in the end',
    'requests, a year',
    'stored bytes, a year',
  ],
  rows.map(({ one, puts, gets, requests, archive }) => [
    one.name,
    round(puts),
    round(yearly * (one.keeper.put + one.keeper.list)),
    round(gets),
    round(instances * one.objects),
    euros(requests),
    euros(archive),
  ]),
)}

${table(
  [
    'how they come',
    'studies',
    'documents',
    'index',
    'metadata',
    'with a copy and room to merge',
    'its disks, a year',
    'cores of the index role at the peak',
    'built again by one core, settled',
  ],
  rows.map(({ one, index, indexCost, cores }) => [
    one.name,
    round(instances / one.perStudy),
    round(instances * one.documents),
    `${round((instances * one.indexBytes) / GB)} GB`,
    one.metadataBytes === 0 ? 'not measured' : `${round((instances * one.metadataBytes) / GB)} GB`,
    `${round(index)} GB`,
    euros(indexCost),
    round(cores),
    `${round((instances * (one.foldUs + one.settleUs)) / 1e6 / 3_600)} h`,
  ]),
)}

Reading them: storage is nearly all of it (${euros(first!.archive)} of the first row's ${euros(first!.archive + first!.requests + first!.indexCost)} a year, without machines);
what is asked of S3 costs ${euros(rows[0]!.requests)} with many associations and ${euros(rows[2]!.requests)} with one at a time, because a commit is one PUT and nothing
else comes while its sender waits. After the keeper has packed, what stays is a pack a study and two objects a lane and day.

Where it breaks first:
${ASSUMED.breaks.map((line, n) => `${n + 1}. ${line}`).join('\n')}`;
}

/** Each section as it has to stand in SCALE.md. */
export const sections = (): Record<Section, string> => ({
  Elasticsearch: elasticsearch(),
  SQLite: sqlite(),
  'The model of 10^9': model(),
});

/** The file with these sections in it; those of others stay. */
export function written(file: string): string {
  let text = file;
  for (const [title, body] of Object.entries(sections())) {
    const heading = `## ${title}\n`;
    const at = text.indexOf(heading);
    if (at < 0) throw new Error(`SCALE.md has no section ${title}`);
    const next = text.indexOf('\n## ', at + heading.length);
    text = `${text.slice(0, at)}${heading}\n${body}\n${next < 0 ? '' : text.slice(next)}`;
  }
  return text;
}

if (import.meta.main) writeFileSync(FILE, written(readFileSync(FILE, 'utf8')));
