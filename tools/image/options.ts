// What is built, from where, under which name.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { ROOTS } from './contents.ts';
import { ARCHITECTURES, type Architecture, ImageError } from './debian.ts';

export const CHECKOUT = resolve(import.meta.dirname, '../..');
export const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'gantry');

/** A hospital's own mirror of Debian, below which are /debian and /debian-security. */
export const MIRROR = process.env.DEBIAN_MIRROR || 'http://deb.debian.org';

export interface Source {
  version: string;
  revision: string;
  /** Seconds since 1970: when the commit was made, not when the image was. */
  epoch: number;
}

interface Lock {
  packages: Record<string, { version?: string }>;
}

export const nodeVersion = (checkout = CHECKOUT): string => {
  const { packages } = JSON.parse(readFileSync(join(checkout, 'package-lock.json'), 'utf8')) as Lock;
  const version = packages['node_modules/node']?.version;
  if (version === undefined) throw new ImageError('package-lock.json names no Node');
  return version;
};

/** From git; without it (a source archive, a docker build) from SOURCE_DATE_EPOCH and GANTRY_REVISION. */
export function sourceOf(checkout: string, env: NodeJS.ProcessEnv): Source {
  const { version } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { version: string };
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', checkout, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  if (!existsSync(join(checkout, '.git')))
    return { version, revision: env.GANTRY_REVISION || 'unknown', epoch: Number(env.SOURCE_DATE_EPOCH || 0) };
  const dirty = git('status', '--porcelain', '--', ...ROOTS, 'package.json', 'package-lock.json', 'tools/image') !== '';
  return {
    version,
    revision: `${git('rev-parse', 'HEAD')}${dirty ? '-dirty' : ''}`,
    epoch: Number(env.SOURCE_DATE_EPOCH || git('log', '-1', '--format=%ct')),
  };
}

/** The checkout as it was committed, in a folder of its own: what others are changing meanwhile is not in it. */
export function committed(checkout: string, commit: string, folder: string): Source {
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', checkout, ...args], { encoding: 'utf8' }).trim();
  try {
    const revision = git('rev-parse', '--verify', `${commit}^{commit}`);
    const paths = [...ROOTS, 'package.json', 'package-lock.json', 'LICENSE', 'tools/setup/viewer.sh'];
    const tar = execFileSync('git', ['-C', checkout, 'archive', '--format=tar', revision, '--', ...paths], {
      maxBuffer: 512 << 20,
    });
    execFileSync('tar', ['-xf', '-', '-C', folder], { input: tar });
    const { version } = sourceOf(folder, {});
    return { version, revision, epoch: Number(git('log', '-1', '--format=%ct', revision)) };
  } catch (cause) {
    throw new ImageError(`the commit ${commit} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

export function architectureHere(): Architecture {
  const found = ARCHITECTURES[process.arch as keyof typeof ARCHITECTURES];
  if (found === undefined) throw new ImageError(`no image for ${process.arch}: Gantry runs on x64 and arm64`);
  return found;
}
