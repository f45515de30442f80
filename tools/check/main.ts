// make check: all checks, one line each, with what they looked at and how long it took.
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { CHECKS } from './checks.ts';

/** Problems of one check that are printed: what comes after is mostly the same again. */
const SHOWN = 60;

const root = resolve(import.meta.dirname, '../..');
const waiting = [...CHECKS];
let failed = 0;

async function work() {
  for (let check = waiting.shift(); check !== undefined; check = waiting.shift()) {
    const began = performance.now();
    const { ok, looked, problems, warnings } = await check.run(root);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    process.stdout.write(`  ${ok ? 'ok    ' : 'FAILED'}  ${check.name.padEnd(40)} ${looked}, ${seconds} s\n`);
    for (const warning of warnings ?? []) process.stdout.write(`          warning: ${warning}\n`);
    for (const problem of problems.slice(0, SHOWN)) process.stdout.write(`${problem.replace(/^/gm, '          ')}\n`);
    if (problems.length > SHOWN) process.stdout.write(`          and ${problems.length - SHOWN} more\n`);
    if (!ok) failed++;
  }
}

await Promise.all(Array.from({ length: availableParallelism() }, work));
if (failed > 0) {
  process.stdout.write(`${failed} of ${CHECKS.length} checks failed\n`);
  process.exitCode = 1;
}
