// `make image`: the container image without a registry, a daemon or a right to anything.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from './build.ts';
import { ImageError } from './debian.ts';
import { architectureHere, CACHE, CHECKOUT, committed, MIRROR, sourceOf } from './options.ts';

const HELP = `make image [ARGS='…']: builds the container image into one file, for docker load and ctr images import

  --name NAME    what it is called (gantry:VERSION; registry.example/pacs/gantry:1.2 to push it there)
  --out FOLDER   where the file is put (${join(CACHE, 'image')})
  --commit REV   a commit, whatever the folder holds by now
  --version V    the version that it says it is, for a test of an upgrade
  --newest       Debian's packages of today instead of those in tools/image/pins.json
`;

try {
  const { values } = parseArgs({
    options: {
      name: { type: 'string' },
      out: { type: 'string' },
      commit: { type: 'string' },
      version: { type: 'string' },
      newest: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    process.exit(0);
  }
  const checkout = values.commit === undefined ? CHECKOUT : mkdtempSync(join(tmpdir(), 'gantry-commit-'));
  process.on('exit', () => {
    if (checkout !== CHECKOUT) rmSync(checkout, { recursive: true, force: true });
  });
  const found =
    values.commit === undefined ? sourceOf(CHECKOUT, process.env) : committed(CHECKOUT, values.commit, checkout);
  const source = { ...found, version: values.version ?? found.version };
  const name = values.name ?? `gantry:${source.version}`;
  if (!/^[a-z0-9][a-z0-9._:/-]*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(name))
    throw new ImageError(`${name}: an image's name is lower case and ends in a tag, such as gantry:${source.version}`);
  const built = await build({
    checkout,
    nodePath: join(CHECKOUT, 'node_modules/node/bin/node'),
    cache: CACHE,
    store: join(CACHE, 'image/layers'),
    source,
    architecture: architectureHere(),
    mirror: MIRROR,
    newest: values.newest,
    name,
    out: resolve(values.out ?? join(CACHE, 'image')),
    say: (text) => process.stdout.write(`  ${text}\n`),
  });
  process.stdout.write(`
  ${name}  ${built.digest}  ${(built.size / 1e6).toFixed(1)} MB compressed, commit ${source.revision}
  ${built.archive}
  ${built.sbom}

  docker load -i ${built.archive}
  ctr -n k8s.io images import ${built.archive}     (as root, on each node)
`);
} catch (error) {
  const usage = (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') === true;
  if (!(error instanceof ImageError) && !usage) throw error;
  process.stderr.write(`make image: ${(error as Error).message}\n`);
  process.exit(usage ? 64 : 1);
}
