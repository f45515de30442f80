// biome-ignore-all lint/suspicious/noTemplateCurlyInString: strings that hold code
// Every rule and every check is shown an offence and must see it; and something decent, and must let it pass.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { after, test } from 'node:test';
import { CHECKS, checkRules } from './checks.ts';
import { judge, RULES } from './rules.ts';
import { blank, importsOf, readCheckout, type SourceFile } from './source.ts';

const CHECKOUT = resolve(import.meta.dirname, '../..');

type Plant = [path: string, text: string];
/** For each rule: files that offend (each by itself), and files that do not. */
const PLANTS: Record<string, { bad: Plant[]; good: Plant[] }> = {
  'a module imports no other module': {
    bad: [
      ['services/gateway/find.ts', "import { search } from '../index/search/search.ts';"],
      ['services/gateway/dimse/find.ts', "const { search } = await import('../../index/search.ts');"],
      ['services/gateway/find.ts', "export { search } from '../index/search.ts';"],
      ['services/gateway/find.ts', "import {\n  type A,\n  b,\n} from '../index/search.ts';"],
      ['services/gateway/find.test.ts', "import '../index/search.ts';"],
      ['services/index/search.ts', "import { roles } from '../roles.ts';"],
    ],
    good: [
      [
        'services/gateway/find.ts',
        "import { Index } from '#proto/index/v1/index.ts';\nimport { tag } from '#dicom/tags.ts';",
      ],
      ['services/gateway/http/find.ts', "import { Read } from '../read.ts'; // not '../../index/search.ts'"],
      ['services/roles.ts', "import { index } from './index/module.ts';"],
      ['services/gateway/find.ts', 'const said = "import x from \'../index/search.ts\'";'],
    ],
  },
  'shared imports no module, and dicom is below dimse is below platform': {
    bad: [
      ['services/shared/platform/rpc.ts', "import { x } from '../../index/module.ts';"],
      ['services/shared/dicom/x.ts', "import { config } from '#platform/config.ts';"],
      ['services/shared/dimse/x.ts', "import { rpc } from '../platform/rpc.ts';"],
    ],
    good: [
      [
        'services/shared/dimse/x.ts',
        "import { tag } from '#dicom/tags.ts';\nimport { fail } from '#platform/errors.ts';",
      ],
      ['services/shared/platform/x.ts', "import { tag } from '#dicom/tags.ts';"],
    ],
  },
  'shared/dicom does no I/O': {
    bad: [
      ['services/shared/dicom/x.ts', "import { readFile } from 'node:fs/promises';"],
      ['services/shared/dicom/x.ts', "import net from 'node:net';"],
    ],
    good: [
      ['services/shared/dicom/x.ts', "import { createHash } from 'node:crypto';"],
      ['services/shared/dicom/x.test.ts', "import { readFile } from 'node:fs/promises';"],
    ],
  },
  'every package has its place': {
    bad: [
      ['services/index/x.ts', "import { Client } from '@grpc/grpc-js';"],
      ['services/index/x.ts', "import { metrics } from '@opentelemetry/api';"],
      ['services/storage/keep.ts', "import { Client } from 'minio';"],
      ['services/storage/keep.ts', "import { x } from 'a-package-that-nobody-decided-on';"],
      ['services/storage/keep.ts', "import type { S3Client } from '@aws-sdk/client-s3';"],
    ],
    good: [
      ['services/shared/platform/rpc.ts', "import { Client } from '@grpc/grpc-js';"],
      ['services/storage/adapters/s3/store.ts', "import { Client } from 'minio';"],
      ['services/index/x.test.ts', "import fc from 'fast-check';"],
    ],
  },
  'node:sqlite stays in adapters': {
    bad: [['services/index/search/x.ts', "import { DatabaseSync } from 'node:sqlite';"]],
    good: [['services/index/adapters/sqlite/x.ts', "import { DatabaseSync } from 'node:sqlite';"]],
  },
  'process.env is read in shared/platform only': {
    bad: [
      ['services/index/x.ts', 'const port = process.env.PORT;'],
      ['services/index/x.ts', "const port = process['env'].PORT;"],
      ['services/main.ts', 'const said = `port ${process.env.PORT}`;'],
      ['services/index/x.ts', "import { env } from 'node:process';"],
    ],
    good: [
      ['services/shared/platform/config.ts', 'const port = process.env.PORT;'],
      ['services/index/x.ts', "// process.env is not read here\nconst text = 'process.env';"],
      ['services/index/x.test.ts', 'process.env.TZ = "UTC";'],
    ],
  },
  'no module reads its role': {
    bad: [
      ['services/index/x.ts', 'const role = process.argv[2];'],
      ['services/index/x.ts', "import { argv } from 'node:process';"],
      ['services/gateway/http/x.ts', "if (context.role === 'gateway') open();"],
    ],
    good: [
      ['services/main.ts', 'const [role] = process.argv.slice(2);'],
      ['services/index/x.ts', "// process.argv is main's\nconst text = 'context.role';"],
      ['services/gateway/dimse/x.ts', 'const { role } = roleSelection; context.roles.find(({ scu }) => scu);'],
    ],
  },
  'no test is skipped or alone': {
    bad: [
      ['services/index/x.test.ts', "test.only('x', () => {});"],
      ['services/index/x.test.ts', "describe.skip('x', () => {});"],
      ['services/index/x.test.ts', "test('x', { skip: true }, () => {});"],
      ['services/index/x.test.ts', "test('x', { skip: 'later' }, () => {});"],
      ['services/index/x.test.ts', "test('x', { todo: true }, () => {});"],
    ],
    good: [
      ['services/index/x.test.ts', "test('x', { skip: without('storescu') }, () => {});\nconst note = 'test.only';"],
      ['services/index/x.test.ts', 'stream.skip(4); page({ skip: 20, only: names });'],
    ],
  },
  'no error is swallowed': {
    bad: [
      ['services/index/x.ts', 'try { a(); } catch {}'],
      ['services/index/x.ts', 'try { a(); } catch (error) {\n}'],
      ['services/index/x.ts', 'function f() {\n  try {\n    return a();\n  } catch {\n    return 0;\n  }\n}'],
      ['services/index/x.ts', 'await close().catch(() => {});'],
      ['services/index/x.ts', 'await close().catch((_) => undefined);'],
    ],
    good: [
      ['services/index/x.ts', 'try { a(); } catch {\n  // It is closed already: that is what we wanted.\n}'],
      ['services/index/x.ts', "try { a(); } catch { throw new Error('no'); }"],
      ['services/index/x.ts', 'try { a(); } catch (error) { log.warn(error); }'],
      ['services/index/x.ts', '// Its owner sees its own errors.\nawait close().catch(() => {});'],
      ['services/index/x.ts', 'await close().catch((error) => log.warn(error));'],
    ],
  },
  'nothing is left to do': {
    bad: [['services/index/x.ts', `const a = 1; // ${'TO'}DO: the rest`]],
    good: [['services/index/x.ts', "const text = 'the list of things to do';"]],
  },
  'no Manager, Helper, Util': {
    bad: [
      ['services/index/x.ts', 'export class ConnectionManager {}'],
      ['services/index/string-utils.ts', ''],
      ['services/index/x.ts', 'interface QueryHelper {}'],
    ],
    good: [['services/index/x.ts', 'export class Managers_ {}\nconst utility = 1;'.replace('Managers_', 'Roster')]],
  },
  'the product logs, it does not print': {
    bad: [['services/index/x.ts', "console.log('here');"]],
    good: [
      ['services/index/x.ts', "ctx.log.info('here');"],
      ['services/index/x.test.ts', "console.log('here');"],
    ],
  },
  'a file holds one idea (400 lines)': {
    bad: [['services/index/x.ts', 'const a = 1;\n'.repeat(401)]],
    good: [
      ['services/index/x.ts', 'const a = 1;\n'.repeat(400)],
      ['services/shared/dicom/x.generated.ts', 'const a = 1;\n'.repeat(4000)],
    ],
  },
  'the top level stays as it is': {
    bad: [
      ['src/index.ts', ''],
      ['.eslintrc', ''],
    ],
    good: [
      ['services/index/x.ts', ''],
      ['.github/CONTRIBUTING.md', ''],
    ],
  },
  'every service has a README of at most 40 lines, and tests': {
    bad: [
      ['services/index/x.test.ts', ''],
      ['services/shared/dicom/x.ts', ''],
    ],
    good: [['services/main.ts', '']],
  },
  'a test lies beside what it tests': {
    bad: [
      ['services/index/tests/x.test.ts', ''],
      ['services/index/x.spec.ts', ''],
      ['services/index/lonely/x.test.ts', ''],
    ],
    good: [['tools/demo/samples.ts', '']],
  },
  'npm ci takes the lock file, aliases are what the checks think': {
    bad: [
      ['package.json', '{"imports":{"#dicom/*":"./elsewhere/*"}}'],
      ['package-lock.json', '{"packages":{"":{},"node_modules/a":{"optionalDependencies":{"@a/darwin-x64":"1.0.0"}}}}'],
    ],
    good: [
      [
        'package-lock.json',
        '{"packages":{"":{},"node_modules/a":{"optionalDependencies":{"@a/darwin-x64":"1.0.0"}},"node_modules/@a/darwin-x64":{}}}',
      ],
    ],
  },
};

test('every rule has its plants', () => {
  assert.deepEqual(RULES.map((rule) => rule.name).sort(), Object.keys(PLANTS).sort());
});

for (const rule of RULES) {
  test(`rule: ${rule.name}`, () => {
    const offences = ([path, text]: Plant) => judge([{ path, text }], [rule])[0]!.offences;
    const plants = PLANTS[rule.name]!;
    for (const plant of plants.bad) assert.ok(offences(plant).length > 0, `does not see ${plant.join('\n')}`);
    for (const plant of plants.good) assert.deepEqual(offences(plant), [], `objects to ${plant.join('\n')}`);
  });
}

test('a README that is too long, and a service that has all it should', () => {
  const service = (lines: number): SourceFile[] => [
    { path: 'services/index/fold.ts', text: '' },
    { path: 'services/index/fold.test.ts', text: '' },
    { path: 'services/index/README.md', text: 'a line\n'.repeat(lines) },
  ];
  const rules = RULES.filter((rule) => rule.name.startsWith('every service has a README'));
  assert.equal(checkRules(service(40), rules).ok, true);
  assert.equal(checkRules(service(41), rules).ok, false);
});

test('a rule that looked at nothing has failed', () => {
  const outcome = checkRules([{ path: 'README.md', text: '' }]);
  assert.equal(outcome.ok, false);
  assert.ok(outcome.problems.some((problem) => problem.includes('looked at no file')));
});

test('the checkout is there to be looked at, and every rule finds its files', () => {
  const files = readCheckout(CHECKOUT);
  assert.ok(files.some((file) => file.path === 'tools/check/check.test.ts' && file.text !== ''));
  for (const { rule, looked } of judge(files)) assert.ok(looked > 0, rule.name);
});

test('comments and strings are told from code', () => {
  const cases: [string, string][] = [
    ['a // b', 'a     '],
    ["a = 'b // c' // d", "a = '      '     "],
    ['a = `b ${c /* d */} e`', 'a = `  ${c        }  `'],
    ['a = `${`x`}`; b', 'a = `${` `}`; b'],
    ['a = /[/"]/.test(b) // c', 'a = /    /.test(b)     '],
    ['a = b / c; // d', 'a = b / c;     '],
    ["a = 'it\\'s' + b", "a = '     ' + b"],
  ];
  for (const [text, expected] of cases) assert.equal(blank(text, { strings: true }), expected, text);
});

test('imports are found however they are written', () => {
  const text =
    "import 'a';\nimport b, { c } from \"b\";\nexport * from 'c';\nimport type { D } from 'd';\nawait import('e');\n// import 'f';\n";
  assert.deepEqual(
    importsOf({ path: 'x.ts', text }).map((found) => [found.specifier, found.line]),
    [
      ['a', 1],
      ['b', 2],
      ['c', 3],
      ['d', 4],
      ['e', 5],
    ],
  );
});

// ---- the checks that run other programs: a small house of its own, first in order, then with one thing wrong.
const folders: string[] = [];
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

const HOUSE: Record<string, string> = {
  '.gitignore': 'node_modules\n',
  'package.json': '{\n  "type": "module"\n}\n',
  'services/index/fold.ts': 'export const one: number = 1;\n',
  'tools/x.sh': '#!/usr/bin/env bash\necho x\n',
  'proto/gantry/index/v1/index.proto':
    'syntax = "proto3";\npackage gantry.index.v1;\nservice Index {\n  rpc Get(GetRequest) returns (GetResponse);\n}\nmessage GetRequest {\n  string uid = 1;\n}\nmessage GetResponse {\n  int64 count = 1;\n}\n',
  'proto/gantry/storage/v1/log.proto':
    'syntax = "proto3";\npackage gantry.storage.v1;\nmessage Entry {\n  uint32 n = 1;\n  oneof kind {\n    Hold hold = 10;\n  }\n}\nmessage Hold {\n  bool on = 1;\n}\n',
  'services/storage/log/kinds.ts': 'export const WRITTEN = { hold: true };\n',
};

/** A house in order, and then with `changes` made to it. */
function house(changes: Record<string, string> = {}): string {
  const root = mkdtempSync(join(tmpdir(), 'gantry-check-'));
  folders.push(root);
  const put = (files: Record<string, string>) => {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
  };
  put(HOUSE);
  for (const file of ['tsconfig.json', 'biome.json', 'buf.yaml', 'buf.gen.yaml'])
    cpSync(join(CHECKOUT, file), join(root, file));
  symlinkSync(join(CHECKOUT, 'node_modules'), join(root, 'node_modules'));
  const run = (program: string, ...args: string[]) =>
    execFileSync(program, args, {
      cwd: root,
      env: { ...process.env, PATH: `${join(CHECKOUT, 'node_modules/.bin')}:${process.env.PATH}` },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  run('git', 'init', '--quiet');
  run('buf', 'generate');
  run('buf', 'build', 'proto', '--exclude-source-info', '-o', 'proto/image.binpb');
  run('git', 'add', '.');
  run('git', '-c', 'user.name=x', '-c', 'user.email=x@x.example', 'commit', '--quiet', '-m', 'a release');
  run('git', 'tag', 'v1');
  put(changes);
  // What was added to a proto is recorded where nothing was taken away, as `make proto` does.
  if (changes[LOG] !== undefined) run('buf', 'build', 'proto', '--exclude-source-info', '-o', 'proto/image.binpb');
  return root;
}

const PROTO = 'proto/gantry/index/v1/index.proto';
const LOG = 'proto/gantry/storage/v1/log.proto';
const WITH_NOTE = HOUSE[LOG]!.replace('Hold hold = 10;', 'Hold hold = 10;\n    Hold note = 11;');
const WRONG: Record<string, { changes: Record<string, string>; says: RegExp }[]> = {
  'types (tsc)': [
    {
      changes: { 'services/index/fold.ts': 'export const one: number = "1";\n' },
      says: /fold\.ts\(1,14\): error TS2322/,
    },
    { changes: { 'services/index/fold.ts': 'export enum A { B }\n' }, says: /erasableSyntaxOnly/ },
    {
      changes: {
        'tsconfig.json': readFileSync(join(CHECKOUT, 'tsconfig.json'), 'utf8').replace('"services/**/*.ts", ', ''),
      },
      says: /services\/index\/fold\.ts: tsc did not look at it/,
    },
  ],
  'format and lint (biome)': [
    { changes: { 'services/index/fold.ts': 'export const one = "1"\n' }, says: /fold\.ts format/ },
    { changes: { 'services/index/fold.ts': 'export const one = () => {\n  debugger;\n};\n' }, says: /noDebugger/ },
    {
      changes: { 'biome.json': '{ "files": { "includes": ["biome.json"] } }\n' },
      says: /fold\.ts: biome did not look at it/,
    },
  ],
  'protos (buf lint)': [
    { changes: { [PROTO]: HOUSE[PROTO]!.replace('string uid', 'string Uid') }, says: /lower_snake_case/ },
    {
      changes: { 'buf.yaml': 'version: v2\nmodules:\n  - path: proto\n    excludes: [proto/gantry/index]\n' },
      says: /buf sees 1 protos of 2/,
    },
  ],
  'protos stay compatible (buf breaking)': [
    { changes: { [PROTO]: HOUSE[PROTO]!.replace('int64 count = 1', 'string count = 1') }, says: /changed type/ },
    { changes: { [PROTO]: HOUSE[PROTO]!.replace('  string uid = 1;\n', '') }, says: /was deleted/ },
    {
      changes: { [PROTO]: HOUSE[PROTO]!.replace('int64 count = 1;', 'int64 count = 1;\n  int64 more = 2;') },
      says: /latest additions/,
    },
  ],
  'entries are read a release before they are written': [
    {
      changes: {
        [LOG]: WITH_NOTE,
        'services/storage/log/kinds.ts': 'export const WRITTEN = { hold: true, note: true };\n',
      },
      says: /note is written, and v1 cannot read it/,
    },
    { changes: { [LOG]: WITH_NOTE }, says: /does this release write note\?/ },
    {
      changes: { 'services/storage/log/kinds.ts': 'export const WRITTEN = { hold: true, memo: false };\n' },
      says: /memo is no kind of entry/,
    },
  ],
  'generated code is current': [
    {
      changes: { [PROTO]: HOUSE[PROTO]!.replace('int64 count = 1;', 'int64 count = 1;\n  int64 more = 2;') },
      says: /index\.ts: differs/,
    },
    { changes: { 'proto/gen/gantry/old/v1/old.ts': 'export {};\n' }, says: /old\.ts: no proto makes it/ },
  ],
  'scripts parse (bash -n)': [
    { changes: { 'tools/x.sh': '#!/usr/bin/env bash\nif true; then\n' }, says: /syntax error/ },
  ],
};

for (const check of CHECKS) {
  if (check.name === 'house rules') continue; // above
  test(`check: ${check.name}`, async () => {
    const fine = await check.run(house());
    assert.deepEqual(fine.problems, []);
    assert.equal(fine.ok, true);
    const wrong = WRONG[check.name];
    assert.ok(wrong, 'has its plants');
    for (const { changes, says } of wrong) {
      const outcome = await check.run(house(changes));
      assert.equal(outcome.ok, false, JSON.stringify(changes));
      assert.match(outcome.problems.join('\n'), says);
    }
  });
}

test('check: an entry that is read, and not written yet, is what the release before a new kind looks like', async () => {
  const { run } = CHECKS.find(({ name }) => name.startsWith('entries are read'))!;
  const kinds = 'export const WRITTEN = { hold: true, note: false };\n';
  const outcome = await run(house({ [LOG]: WITH_NOTE, 'services/storage/log/kinds.ts': kinds }));
  assert.deepEqual(outcome, { ok: true, looked: '2 kinds against v1', problems: [] });
});
