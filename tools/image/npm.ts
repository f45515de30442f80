// The production packages, as package-lock.json has them, and the viewer: each in the cache once.
import { execFileSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { ImageError } from './debian.ts';

/** npm runs on the node that it came with, as in tools/setup/lib.sh. */
const hostPath = (checkout: string): string =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .filter((one) => one !== join(checkout, 'node_modules/.bin'))
    .join(delimiter);

/** The path of a node_modules without development packages. No package's script runs: what is installed is what was locked. */
export function productionModules(checkout: string, store: string): string {
  const lock = readFileSync(join(checkout, 'package-lock.json'));
  const made = join(store, `modules-${hash('sha256', lock).slice(0, 16)}`);
  if (existsSync(made)) return join(made, 'node_modules');
  mkdirSync(store, { recursive: true });
  const work = mkdtempSync(join(store, '.modules.'));
  try {
    for (const one of ['package.json', 'package-lock.json']) copyFileSync(join(checkout, one), join(work, one));
    const args = ['ci', '--omit=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
    execFileSync('npm', [...args, '--engine-strict=false', '--loglevel=error'], {
      cwd: work,
      env: { ...process.env, PATH: hostPath(checkout), NODE_ENV: '', npm_config_include: '' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    try {
      renameSync(work, made);
    } catch (error) {
      // Another build was quicker; its result is as good.
      if (!existsSync(made)) throw error;
    }
  } catch (cause) {
    const { stderr } = cause as { stderr?: Buffer };
    throw new ImageError(`npm ci --omit=dev: ${stderr?.toString().trim() || 'failed'}`, { cause });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return join(made, 'node_modules');
}

export interface ViewerDist {
  folder: string;
  version: string;
  /** npm's integrity of the package that it was taken from. */
  integrity: string;
}

/** What tools/setup/viewer.sh put into the cache; its version and digest are read from there, so that they stand in one place. */
export function viewerDist(checkout: string, cache: string): ViewerDist {
  const script = readFileSync(join(checkout, 'tools/setup/viewer.sh'), 'utf8');
  const field = (name: string): string => {
    const found = new RegExp(`^${name}=(\\S+)$`, 'm').exec(script)?.[1];
    if (found === undefined) throw new ImageError(`tools/setup/viewer.sh says no ${name}`);
    return found;
  };
  const [version, integrity] = [field('version'), field('integrity')];
  const folder = join(cache, `ohif-${version}`);
  const stamp = join(folder, '.integrity');
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8').trim() !== integrity)
    throw new ImageError(
      `the viewer ${version} is not in ${folder}: run \`make viewer\` where npm's registry can be reached`,
    );
  return { folder, version, integrity };
}
