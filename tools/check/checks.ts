// What `make check` runs. Each check says how much it looked at; a check that looked at less than there is has failed.
import { realpathSync } from 'node:fs';
import { checkBreaking, checkGenerated, checkKinds, checkLint } from './proto.ts';
import { judge, RULES, type Rule } from './rules.ts';
import { run } from './run.ts';
import { readCheckout, type SourceFile } from './source.ts';

export interface Outcome {
  ok: boolean;
  /** What was looked at: "231 files". */
  looked: string;
  /** What is wrong, for a person. */
  problems: string[];
  warnings?: string[];
}

export interface Check {
  name: string;
  run(root: string): Promise<Outcome>;
}

export const CHECKS: Check[] = [
  { name: 'types (tsc)', run: checkTypes },
  { name: 'format and lint (biome)', run: checkBiome },
  { name: 'protos (buf lint)', run: checkLint },
  { name: 'protos stay compatible (buf breaking)', run: checkBreaking },
  { name: 'entries are read a release before they are written', run: checkKinds },
  { name: 'generated code is current', run: checkGenerated },
  { name: 'scripts parse (bash -n)', run: checkScripts },
  { name: 'house rules', run: async (root) => checkRules(readCheckout(root)) },
];

const isTypeScript = ({ path }: SourceFile) =>
  /^(services|tools|proto\/gen)\/.*\.ts$/.test(path) && !path.startsWith('services/web/');

async function checkTypes(root: string): Promise<Outcome> {
  const wanted = readCheckout(root).filter(isTypeScript);
  const { status, stdout, output } = await run(root, 'tsc', '-p', '.', '--listFiles');
  const listed = new Set(stdout.split('\n').filter((line) => line.startsWith('/')));
  // The checkout's folder as it is named here, and as it is called without links.
  const roots = [root, realpathSync(root)];
  const unseen = wanted.filter(({ path }) => !roots.some((folder) => listed.has(`${folder}/${path}`)));
  const errors = output.split('\n').filter((line) => !line.startsWith('/') && line !== '');
  const problems = [
    ...errors,
    ...unseen.map(({ path }) => `${path}: tsc did not look at it (tsconfig.json, "include")`),
  ];
  return { ok: status === 0 && unseen.length === 0 && wanted.length > 0, looked: `${wanted.length} files`, problems };
}

async function checkBiome(root: string): Promise<Outcome> {
  const wanted = readCheckout(root).filter(
    ({ path }) => /^(services|tools)\/.*\.ts$/.test(path) && !/\.generated\.ts$|\/(fixtures|corpus)\//.test(path),
  );
  const { status, output } = await run(root, 'biome', 'check', '--error-on-warnings', '--max-diagnostics=50');
  // --verbose lists what was looked at; a person would not want it.
  const verbose = await run(root, 'biome', 'check', '--max-diagnostics=1', '--verbose');
  const listed = new Set([...verbose.output.matchAll(/^ +- (.+)$/gm)].map((match) => match[1]));
  const unseen = wanted.filter(({ path }) => !listed.has(path));
  const problems = status === 0 ? [] : [output, 'make fix mends most of this'];
  problems.push(...unseen.map(({ path }) => `${path}: biome did not look at it`));
  return { ok: problems.length === 0 && listed.size > 0, looked: `${listed.size} files`, problems };
}

async function checkScripts(root: string): Promise<Outcome> {
  const scripts = readCheckout(root).filter(({ path, text }) => path.endsWith('.sh') || /^#!.*\b(ba)?sh\b/.test(text));
  const problems: string[] = [];
  for (const { path } of scripts) {
    const { status, output } = await run(root, 'bash', '-n', path);
    if (status !== 0) problems.push(output);
  }
  return { ok: problems.length === 0 && scripts.length > 0, looked: `${scripts.length} scripts`, problems };
}

export function checkRules(files: SourceFile[], rules: Rule[] = RULES): Outcome {
  const problems: string[] = [];
  const warnings: string[] = [];
  for (const { rule, looked, offences } of judge(files, rules)) {
    if (looked === 0) problems.push(`"${rule.name}" looked at no file: the rule or the tree is wrong`);
    for (const { path, line, says } of offences) {
      (rule.warns ? warnings : problems).push(
        `${path}${line === undefined ? '' : `:${line}`}  ${says}  [${rule.name}]`,
      );
    }
  }
  return { ok: problems.length === 0, looked: `${rules.length} rules over ${files.length} files`, problems, warnings };
}
