// The contracts: linted, compatible with what was recorded, and the generated code is what they generate.
//   node tools/check/proto.ts --write [--accept-breaking]     (make proto)
// proto/image.binpb is the record. Additions go into it by `make proto`; anything that a peer of the last state could not
// read is refused, unless --accept-breaking says that nobody runs that state. The log's protos are what lies on disks.
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Outcome } from './checks.ts';
import { run } from './run.ts';
import { readCheckout } from './source.ts';

const IMAGE = 'proto/image.binpb';
const BUILD = ['build', 'proto', '--exclude-source-info'];

export async function checkLint(root: string): Promise<Outcome> {
  const wanted = readCheckout(root).filter(({ path }) => /^proto\/.*\.proto$/.test(path)).length;
  const seen = (await run(root, 'buf', 'ls-files', 'proto')).stdout
    .split('\n')
    .filter((line) => line.endsWith('.proto')).length;
  const { status, output } = await run(root, 'buf', 'lint');
  const problems = status === 0 ? [] : [output];
  if (seen !== wanted) problems.push(`buf sees ${seen} protos of ${wanted} (buf.yaml, "modules")`);
  return { ok: problems.length === 0 && seen > 0, looked: `${seen} protos`, problems };
}

export async function checkBreaking(root: string): Promise<Outcome> {
  if (!existsSync(join(root, IMAGE)))
    return { ok: false, looked: 'nothing', problems: [`${IMAGE} is missing: make proto`] };
  return withTemporary(async (temporary) => {
    const problems: string[] = [];
    const messages =
      (await run(root, 'buf', 'build', IMAGE, '-o', '-#format=json')).stdout.split('"messageType"').length - 1;
    if (messages < 1) problems.push(`${IMAGE} describes no message`);
    problems.push(...(await breaking(root, IMAGE)));

    const released = await lastRelease(root, temporary);
    if (released) problems.push(...(await breaking(root, released.image)));

    const current = join(temporary, 'image.binpb');
    await run(root, 'buf', ...BUILD, '-o', current);
    if (
      problems.length === 0 &&
      !(existsSync(current) && readFileSync(current).equals(readFileSync(join(root, IMAGE))))
    ) {
      problems.push(`${IMAGE} does not hold the latest additions: make proto`);
    }
    return { ok: problems.length === 0, looked: `against ${IMAGE}${released ? ` and ${released.tag}` : ''}`, problems };
  });
}

/** The record as the last tagged release had it; a tag from before there was a record has none to compare with. */
async function lastRelease(root: string, temporary: string): Promise<{ tag: string; image: string } | undefined> {
  const tag = (await run(root, 'git', 'describe', '--tags', '--abbrev=0', '--match', 'v*')).stdout.trim();
  const image = join(temporary, 'released.binpb');
  const extracted =
    tag !== '' && (await run(root, 'bash', '-c', `git show '${tag}:${IMAGE}' >'${image}'`)).status === 0;
  return extracted ? { tag, image } : undefined;
}

const KINDS = 'services/storage/log/kinds.ts';

/** An entry of the log is written only once the last release can read it: processes of both run at once while one is rolled out. */
export async function checkKinds(root: string): Promise<Outcome> {
  return withTemporary(async (temporary) => {
    const { WRITTEN } = (await import(pathToFileURL(join(root, KINDS)).href)) as { WRITTEN: Record<string, boolean> };
    const known = await kindsOf(root, IMAGE);
    const released = await lastRelease(root, temporary);
    const before = released ? await kindsOf(root, released.image) : known;
    const problems = Object.entries(WRITTEN).flatMap(([kind, written]) => {
      if (!known.includes(kind)) return [`${KINDS}: ${kind} is no kind of entry in the log's proto`];
      return written && !before.includes(kind)
        ? [
            `${KINDS}: ${kind} is written, and ${released?.tag} cannot read it: false, until a release that reads it is out`,
          ]
        : [];
    });
    problems.push(
      ...known.filter((kind) => !(kind in WRITTEN)).map((kind) => `${KINDS}: does this release write ${kind}?`),
    );
    const looked = `${known.length} kinds${released ? ` against ${released.tag}` : ', no release before'}`;
    return { ok: problems.length === 0 && known.length > 0, looked, problems };
  });
}

interface Described {
  file: { name: string; messageType: { name: string; field: { name: string; oneofIndex?: number }[] }[] }[];
}
async function kindsOf(root: string, image: string): Promise<string[]> {
  const { stdout } = await run(root, 'buf', 'build', image, '-o', '-#format=json');
  const { file } = JSON.parse(stdout) as Described;
  const log = file.find(({ name }) => name.endsWith('storage/v1/log.proto'));
  const fields = log?.messageType.find(({ name }) => name === 'Entry')?.field ?? [];
  return fields.filter(({ oneofIndex }) => oneofIndex !== undefined).map(({ name }) => name);
}

async function breaking(root: string, against: string): Promise<string[]> {
  const { status, output } = await run(root, 'buf', 'breaking', 'proto', '--against', against);
  return status === 0 ? [] : [output];
}

export async function checkGenerated(root: string): Promise<Outcome> {
  return withTemporary(async (temporary) => {
    const generated = await generate(root, temporary);
    if (generated.problem !== undefined) return { ok: false, looked: 'nothing', problems: [generated.problem] };
    const there = filesUnder(join(root, 'proto/gen'));
    const names = [...new Set([...generated.files.keys(), ...there.keys()])].sort();
    const problems = names.flatMap((name) => {
      if (!generated.files.has(name)) return [`proto/gen/${name}: no proto makes it`];
      if (!there.has(name)) return [`proto/gen/${name}: is missing`];
      return there.get(name) === generated.files.get(name)
        ? []
        : [`proto/gen/${name}: differs from what its proto makes`];
    });
    if (problems.length > 0) problems.push('make proto generates it');
    return { ok: problems.length === 0 && names.length > 0, looked: `${names.length} files`, problems };
  });
}

async function generate(root: string, folder: string): Promise<{ files: Map<string, string>; problem?: string }> {
  const { status, output } = await run(root, 'buf', 'generate', '-o', folder);
  const files = status === 0 ? filesUnder(join(folder, 'proto/gen')) : new Map<string, string>();
  return files.size > 0 ? { files } : { files, problem: `buf generate made nothing. ${output}` };
}

function filesUnder(folder: string): Map<string, string> {
  if (!existsSync(folder)) return new Map();
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  return new Map(names.map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
}

async function withTemporary<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-proto-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Lint, compare with the record, generate, record. Nothing is written when something is wrong. */
async function write(root: string, acceptBreaking: boolean): Promise<string[]> {
  const lint = await checkLint(root);
  if (!lint.ok) return lint.problems;
  const broken = existsSync(join(root, IMAGE)) && !acceptBreaking ? await breaking(root, IMAGE) : [];
  if (broken.length > 0) {
    return [
      ...broken,
      'A process of the last state could not read this. Add fields instead; if nobody runs that state:',
      'node tools/check/proto.ts --write --accept-breaking',
    ];
  }
  return withTemporary(async (temporary) => {
    const generated = await generate(root, temporary);
    if (generated.problem !== undefined) return [generated.problem];
    const image = await run(root, 'buf', ...BUILD, '-o', join(temporary, 'image.binpb'));
    if (image.status !== 0) return [image.output];
    rmSync(join(root, 'proto/gen'), { recursive: true, force: true });
    cpSync(join(temporary, 'proto/gen'), join(root, 'proto/gen'), { recursive: true });
    writeFileSync(join(root, IMAGE), readFileSync(join(temporary, 'image.binpb')));
    process.stdout.write(`${lint.looked}: ${generated.files.size} files in proto/gen, recorded in ${IMAGE}\n`);
    return [];
  });
}

if (import.meta.main) {
  if (!process.argv.includes('--write')) {
    process.stderr.write('usage: node tools/check/proto.ts --write [--accept-breaking]\n');
    process.exit(2);
  }
  const problems = await write(resolve(import.meta.dirname, '../..'), process.argv.includes('--accept-breaking'));
  for (const problem of problems) process.stderr.write(`${problem}\n`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
