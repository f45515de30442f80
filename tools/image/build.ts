// The image, from what is in the checkout and the cache: five layers, what changes least first.
import { hash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeArchive } from './archive.ts';
import { HOME, missingImports, modules, node, program, SBOM, viewer } from './contents.ts';
import { type Architecture, type Debian, type DebianOptions, fetchDebian, ImageError, readPins } from './debian.ts';
import { type Entry, type Layer, text, writeLayer } from './layer.ts';
import { productionModules, viewerDist } from './npm.ts';
import { nodeVersion, type Source } from './options.ts';
import { rootfs } from './rootfs.ts';
import { sbom } from './sbom.ts';

export interface BuildOptions {
  checkout: string;
  cache: string;
  /** The program `node` that goes into it. */
  nodePath: string;
  /** Where layers are kept by content; a folder of its own proves that a build does not lean on an earlier one. */
  store: string;
  source: Source;
  architecture: Architecture;
  mirror: string;
  /** Debian's packages of today instead of the pinned ones. */
  newest: boolean;
  name: string;
  out: string;
  open?: DebianOptions['open'];
  say(text: string): void;
}

export interface Built {
  archive: string;
  sbom: string;
  digest: string;
  layers: Layer[];
  /** Compressed, which is what is pulled. */
  size: number;
  debian: Debian['which'];
}

/** Compressed: what a node pulls before its first pod starts. */
export const SIZE_MAX = 200e6;

/** Node of the checkout, when it is the pinned one to the last bit. */
export function pinnedNode(checkout: string, architecture: Architecture, path: string) {
  const { version, sha256 } = readPins().node;
  if (nodeVersion(checkout) !== version)
    throw new ImageError(
      `package-lock.json has Node ${nodeVersion(checkout)} and tools/image/pins.json ${version}: run node tools/image/pin.run.ts`,
    );
  const found = hash('sha256', readFileSync(path));
  if (found !== sha256[architecture])
    throw new ImageError(`${path} has digest ${found}, and Node ${version}'s is ${sha256[architecture]}`);
  return { version, sha256: found };
}

/** Everything above Debian and Node: the same for this archive and for deploy/Dockerfile. */
export function upper(
  options: Pick<BuildOptions, 'checkout' | 'cache' | 'source' | 'architecture'> & {
    debian: Debian | undefined;
    node: { version: string; sha256: string };
  },
): Record<'viewer' | 'modules' | 'program', Entry[]> {
  const { checkout, cache } = options;
  const dist = viewerDist(checkout, cache);
  const installed = productionModules(checkout, join(cache, 'image'));
  const bill = sbom({
    ...options,
    viewer: dist,
    installed: (path) => existsSync(join(installed, '..', path)),
  });
  const parts = {
    viewer: viewer(dist.folder),
    modules: modules(installed),
    program: [...program(checkout, options.source.version), text(SBOM, bill)],
  };
  const inside = new Set([...parts.modules, ...parts.program].map(({ path }) => path));
  const missing = missingImports(checkout, (path) => inside.has(path));
  if (missing.length > 0)
    throw new ImageError(`the program would not start in the image:\n${missing.map((one) => `  ${one}\n`).join('')}`);
  return parts;
}

export async function build(options: BuildOptions): Promise<Built> {
  const { checkout, cache, nodePath, store, architecture, source, say } = options;
  const nodePin = pinnedNode(checkout, architecture, nodePath);
  const debian = fetchDebian({
    pins: readPins(),
    architecture,
    store: join(cache, 'image/debian'),
    mirror: options.mirror,
    newest: options.newest,
    ...(options.open === undefined ? {} : { open: options.open }),
  });
  const parts = upper({ checkout, cache, source, architecture, debian, node: nodePin });
  const contents: [string, Entry[]][] = [
    [
      `Debian: ${debian.packages.map(({ pin }) => `${pin.name} ${pin.version}`).join(', ')}`,
      await rootfs(debian, architecture),
    ],
    [`Node ${nodePin.version}`, node(nodePath)],
    ['OHIF viewer', parts.viewer],
    ['npm packages', parts.modules],
    [`Gantry ${source.version} in /${HOME}`, parts.program],
  ];
  const layers: Layer[] = [];
  for (const [name, entries] of contents) {
    const layer = await writeLayer(name, entries, store);
    say(`${(layer.size / 1e6).toFixed(1).padStart(7)} MB  ${name.split(':')[0]}`);
    layers.push(layer);
  }
  const size = layers.reduce((sum, layer) => sum + layer.size, 0);
  if (size > SIZE_MAX)
    throw new ImageError(`the image has ${Math.ceil(size / 1e6)} MB, and ${SIZE_MAX / 1e6} are the limit`);
  const bill = parts.program.find(({ path }) => path === SBOM)!.bytes!();
  const archive = join(
    options.out,
    `gantry-${options.name.slice(options.name.lastIndexOf(':') + 1)}-${architecture}.tar`,
  );
  const digest = await writeArchive({ name: options.name, architecture, source, layers }, archive);
  const sbomPath = archive.replace(/\.tar$/, '.spdx.json');
  writeFileSync(sbomPath, bill);
  return { archive, sbom: sbomPath, digest, layers, size, debian: debian.which };
}
