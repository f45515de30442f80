// The command line as the tests call it: in this process, with a terminal that remembers.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { type Element, latin1, part10, uidFor } from '../demo/part10.ts';
import { gantry } from './main.ts';

export interface Ran {
  code: number | undefined;
  out: string;
  err: string;
  bytes: Buffer;
  json<T>(): T;
}

/** Nothing of the machine's own settings, and journals in a place of their own. */
export const state = mkdtempSync(join(tmpdir(), 'gantry-cli-'));

export async function run(
  args: string[],
  env: Record<string, string> = {},
  signal = new AbortController().signal,
): Promise<Ran> {
  const [output, errors] = [new PassThrough(), new PassThrough()];
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  output.on('data', (chunk: Buffer) => out.push(chunk));
  errors.on('data', (chunk: Buffer) => err.push(chunk));
  const code = await gantry(args, {
    env: { XDG_STATE_HOME: state, ...env },
    output,
    errors,
    input: new PassThrough() as unknown as NodeJS.ReadStream,
    signal,
  });
  await new Promise((resolve) => setImmediate(resolve)); // what is in the streams arrives
  const bytes = Buffer.concat(out);
  const text = bytes.toString('utf8');
  return { code, out: text, err: Buffer.concat(err).toString('utf8'), bytes, json: <T>() => JSON.parse(text) as T };
}

export const CT = '1.2.840.10008.5.1.4.1.1.2';
export const SECRET = 'Secretname';

/** A small instance that is like no other. */
export function instance(name: string, over: Record<string, [vr: string, value: string]> = {}): Buffer {
  const study = over['0020000d']?.[1] ?? uidFor(`cli/study/${name.split('/')[0]}`);
  const all: Record<string, [string, string]> = {
    '00080016': ['UI', CT],
    '00080018': ['UI', uidFor(`cli/${name}`)],
    '00080020': ['DA', '20240102'],
    '00080060': ['CS', 'CT'],
    '00100010': ['PN', `${SECRET}^${name.replace(/\W/g, '')}`],
    '00100020': ['LO', `ID-${name.split('/')[0]}`],
    '0020000d': ['UI', study],
    '0020000e': ['UI', uidFor(`cli/series/${name.split('/')[0]}`)],
    '00200013': ['IS', '1'],
    ...over,
  };
  const elements = Object.entries(all).map(([tag, [vr, value]]): Element => [tag, vr, value]);
  return Buffer.from(part10(elements, latin1));
}

/** A folder with these files. */
export function folder(files: Record<string, Buffer | string>): string {
  const root = mkdtempSync(join(tmpdir(), 'gantry-files-'));
  for (const [name, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), bytes);
  }
  return root;
}
