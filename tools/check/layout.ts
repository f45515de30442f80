// Where things lie: the rules about the tree.
import { type Lock, missingOptionals } from '../setup/lock.ts';
import type { Offence, Rule } from './rules.ts';
import { ALIASES } from './source.ts';

const TOP = new Set([
  ...['services', 'proto', 'charts', 'deploy', 'tools'],
  ...[
    'Makefile',
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'biome.json',
    'buf.yaml',
    'buf.gen.yaml',
    'README.md',
    'LICENSE',
  ],
]);
const DOTS = new Set([
  '.ci',
  '.github',
  '.gitignore',
  '.gitattributes',
  '.npmrc',
  '.nvmrc',
  '.editorconfig',
  '.dockerignore',
]);

const README_LINES = 40;

/** `services/index` and the like, and the parts of `services/shared`: each owns something and says what. */
function ownerOf(path: string): string | undefined {
  const match = /^services\/(shared\/[^/]+|[^/]+)\/.*\.ts$/.exec(path);
  return match === null || match[1] === 'shared' || match[1] === 'web' ? undefined : `services/${match[1]}`;
}

export const layout: Rule[] = [
  {
    name: 'the top level stays as it is',
    looksAt: () => true,
    offences: (files) =>
      [...new Set(files.map((file) => file.path.split('/')[0]!))]
        .filter((entry) => !TOP.has(entry) && !DOTS.has(entry))
        .map((path) => ({ path, says: 'a new entry at the top: is there no place for it below?' })),
  },
  {
    name: 'every service has a README of at most 40 lines, and tests',
    looksAt: (file) => ownerOf(file.path) !== undefined,
    offences: (files, all) => {
      const owners = [...new Set(files.map((file) => ownerOf(file.path)!))];
      return owners.flatMap((owner): Offence[] => {
        const path = `${owner}/README.md`;
        const readme = all.find((file) => file.path === path);
        const lines = readme?.text.trimEnd().split('\n').length ?? 0;
        const tested = files.some((file) => file.path.startsWith(`${owner}/`) && file.path.endsWith('.test.ts'));
        return [
          ...(readme === undefined
            ? [{ path, says: 'is missing: what it owns, where to start reading, what always holds' }]
            : []),
          ...(lines > README_LINES ? [{ path, says: `${lines} lines: at most ${README_LINES}` }] : []),
          ...(tested ? [] : [{ path: owner, says: 'has no test' }]),
        ];
      });
    },
  },
  {
    name: 'a test lies beside what it tests',
    looksAt: (file) => /^(services|tools)\/.*\.ts$/.test(file.path) && !file.path.startsWith('services/web/'),
    offences: (files, all) => {
      const folderOf = (path: string) => path.slice(0, path.lastIndexOf('/'));
      const withCode = new Set(
        all.filter(({ path }) => /\.ts$/.test(path) && !/\.test\.ts$/.test(path)).map(({ path }) => folderOf(path)),
      );
      return files.flatMap(({ path }): Offence[] => {
        if (/\/(tests?|__tests__|specs?)\//.test(path))
          return [{ path, says: 'a folder for tests: put it beside the code' }];
        if (/\.spec\.ts$/.test(path)) return [{ path, says: 'is named x.test.ts here' }];
        if (path.endsWith('.test.ts') && ![...withCode].some((folder) => `${folder}/`.startsWith(`${folderOf(path)}/`)))
          return [{ path, says: 'lies beside no code' }];
        return [];
      });
    },
  },
  {
    name: 'npm ci takes the lock file, aliases are what the checks think',
    looksAt: (file) => file.path === 'package-lock.json' || file.path === 'package.json',
    offences: (files) =>
      files.flatMap(({ path, text }): Offence[] => {
        const content = JSON.parse(text);
        if (path === 'package-lock.json') {
          return Object.keys(missingOptionals(content as Lock)).map((name) => ({
            path,
            says: `lacks ${name}: node tools/setup/lock.ts --write`,
          }));
        }
        const wanted = Object.fromEntries(
          Object.entries(ALIASES).map(([alias, folder]) => [`${alias}*`, `./${folder}*`]),
        );
        return JSON.stringify(content.imports) === JSON.stringify(wanted)
          ? []
          : [{ path, says: '"imports" differ from tools/check/source.ts' }];
      }),
  },
];
