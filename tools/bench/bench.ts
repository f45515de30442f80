// make bench ARGS='--quick --only qido': measures Gantry and its peers and writes RESULTS.md. What stands there by hand stays.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, freemem, loadavg, release, tmpdir, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { CASES, type Outcome } from './cases.ts';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
    runs: { type: 'string', default: '3' },
    scale: { type: 'string', default: '100000' },
    million: { type: 'boolean', default: false },
    associations: { type: 'string', default: '4' },
    'dry-run': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  process.stdout.write(`make bench ARGS='…'
  --quick      small counts, one run each: does everything work? RESULTS.md stays as it is
  --only NAME  one case (may be repeated): ${CASES.map(({ name }) => name).join(' ')}
  --runs N     medians over N runs (3)
  --scale N    instances of the case 'scale' (100000); --million is a million
  --associations N  senders at once of the cases that store; with another number than 4 RESULTS.md stays as it is
  --dry-run    print, leave RESULTS.md as it is
`);
  process.exit(0);
}
const unknown = values.only?.find((name) => !CASES.some((one) => one.name === name));
if (unknown !== undefined) {
  process.stderr.write(`there is no case ${unknown}; there are: ${CASES.map(({ name }) => name).join(' ')}\n`);
  process.exit(64);
}

const RESULTS = join(import.meta.dirname, 'RESULTS.md');
const BY_HAND = '## By hand';
const options = {
  quick: values.quick,
  runs: values.quick ? 1 : Number(values.runs),
  scale: values.million ? 1_000_000 : Number(values.scale),
  associations: Number(values.associations),
};
const printOnly = values.quick || values['dry-run'] || options.associations !== 4;

const table = (rows: Outcome['rows']): string => {
  const columns = Object.keys(rows[0] ?? {});
  const line = (cells: (string | number)[]) => `| ${cells.join(' | ')} |`;
  return [
    line(columns),
    line(columns.map(() => '---')),
    ...rows.map((row) => line(columns.map((c) => row[c] ?? ''))),
  ].join('\n');
};

function section(name: string, title: string, outcome: Outcome, loads: [number, number]): string {
  const when = new Date().toISOString().slice(0, 16).replace('T', ' ');
  const runs = options.runs > 1 && !['scale', 'found'].includes(name) ? `medians of ${options.runs} runs` : 'one pass';
  const aims = outcome.aims.map(({ aim, measured, met }) => ({ aim, measured, met: met ? 'yes' : '**missed**' }));
  return [
    `## ${title}`,
    `<!-- case:${name} -->`,
    `${when} UTC, ${runs}; load average when it began ${loads[0].toFixed(1)}, when it ended ${loads[1].toFixed(1)}.`,
    '',
    table(outcome.rows),
    ...(outcome.notes ? ['', ...outcome.notes] : []),
    '',
    table(aims),
    '',
  ].join('\n');
}

/** What an earlier run wrote: a section a case, and what people wrote under `By hand`. */
function earlier(): { sections: Map<string, string>; byHand: string } {
  const text = existsSync(RESULTS) ? readFileSync(RESULTS, 'utf8') : '';
  const at = text.indexOf(`\n${BY_HAND}`);
  const sections = new Map<string, string>();
  for (const part of text.slice(0, at < 0 ? undefined : at + 1).split(/^(?=## )/m)) {
    const name = /<!-- case:(\S+) -->/.exec(part)?.[1];
    if (name) sections.set(name, `${part.trimEnd()}\n`);
  }
  return { sections, byHand: at < 0 ? `${BY_HAND}\n` : text.slice(at + 1) };
}

function write(sections: Map<string, string>, byHand: string): void {
  const kept = CASES.filter(({ name }) => sections.has(name)).map(({ name }) => sections.get(name)!);
  const aims = kept.flatMap((text) => text.split('\n').filter((line) => /\| (yes|\*\*missed\*\*) \|$/.test(line)));
  const processor = cpus()[0]?.model.trim() ?? 'unknown';
  const machine = `${cpus().length} × ${processor}, ${Math.round(totalmem() / 2 ** 30)} GB, Linux ${release()}, Node ${process.version}`;
  const head = `# Benchmarks

\`make bench\` writes this file (\`ARGS=--help\` tells how to run a part). Machine: ${machine}.
Server, peer and sender share these cores in every run, so compare the servers of one table with each other, and CPU more than rates:
rates move with whatever else runs (the load average stands with each table). Gantry answers when the instance is flushed
(group commit), and its CPU includes the index; Orthanc 1.10.1 and orthanc-dicomweb as Debian ships them, files flushed; \`storescp\`
neither flushes nor indexes; nginx serves plain files from the page cache.

| aim | measured | met |
| --- | --- | --- |
${aims.join('\n')}
`;
  writeFileSync(RESULTS, [head, ...kept, byHand].join('\n'));
}

/**
 * The first use of a page of a virtual machine is paid to its host (3.3 s of CPU a GB, measured), and pages that are free go back to it
 * within seconds: whoever happened to write into new pages paid as much again as for its work. So the page cache is filled with a file
 * of zeros: what is measured then takes its pages from there, as on a machine that has run for a day.
 */
function fillPageCache(): void {
  const path = join(mkdtempSync(join(tmpdir(), 'bench-zeros-')), 'zeros');
  process.on('exit', () => rmSync(dirname(path), { recursive: true, force: true }));
  const bytes = Math.max(0, freemem() - 2 ** 31);
  process.stdout.write(`${Math.round(bytes / 1e9)} GB of the page cache are filled before anything is measured …\n`);
  execFileSync('truncate', ['--size', String(bytes), path]);
  execFileSync('dd', [`if=${path}`, 'of=/dev/null', 'bs=1M', 'status=none']);
}

if (!values.quick) fillPageCache();
for (const one of CASES) {
  if (values.only && !values.only.includes(one.name)) continue;
  const before = loadavg()[0]!;
  const began = performance.now();
  process.stdout.write(`${one.title}${options.associations === 4 ? '' : `, but ${options.associations} senders`} …\n`);
  const outcome = await one.run(options);
  const text = section(one.name, one.title, outcome, [before, loadavg()[0]!]);
  process.stdout.write(`${text}(${Math.round((performance.now() - began) / 1000)} s)\n\n`);
  if (printOnly) continue;
  const { sections, byHand } = earlier(); // after each case: what was measured is kept when a later one fails
  sections.set(one.name, text);
  write(sections, byHand);
}
