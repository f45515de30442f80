// Completes package-lock.json. npm leaves out the optional packages of other platforms when the registry at hand does not
// serve them (a hospital's mirror, say), and then `npm ci` refuses the lock: "Missing: @biomejs/cli-darwin-x64@ from lock
// file". An entry with the platform it is for is all that npm needs to pass over it.
//   node tools/setup/lock.ts [--write]
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

interface LockEntry {
  version?: string;
  integrity?: string;
  dev?: boolean;
  optional?: boolean;
  os?: string[];
  cpu?: string[];
  libc?: string[];
  optionalDependencies?: Record<string, string>;
}
export interface Lock {
  packages: Record<string, LockEntry>;
}

const OS = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32'];
const CPU: Record<string, string> = { armv7: 'arm', x86: 'ia32' };

/** The optional packages that the lock names and does not describe, as the entries that are missing. */
export function missingOptionals(lock: Lock): Record<string, LockEntry> {
  const missing: Record<string, LockEntry> = {};
  for (const [owner, entry] of Object.entries(lock.packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      if (isDescribed(lock, owner, name)) continue;
      const platform = platformOf(name);
      // Without an exact version and a platform we would be guessing: `npm ci` shall say what it misses.
      if (platform === undefined || !/^\d+\.\d+\.\d+/.test(version)) continue;
      missing[`node_modules/${name}`] = {
        version,
        ...platform.cpu,
        ...(entry.dev ? { dev: true } : {}),
        ...platform.libc,
        optional: true,
        ...platform.os,
      };
    }
  }
  return missing;
}

function isDescribed(lock: Lock, owner: string, name: string): boolean {
  // As node resolves it: from the owner's own node_modules outwards.
  for (let at = owner; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    if (lock.packages[at === '' ? `node_modules/${name}` : `${at}/node_modules/${name}`]) return true;
    if (at === '') return false;
  }
}

function platformOf(name: string) {
  const words = name.slice(name.indexOf('/') + 1).split('-');
  const os = words.find((word) => OS.includes(word));
  if (os === undefined) return undefined;
  const cpu = words[words.indexOf(os) + 1];
  const libc = words.includes('musl') ? 'musl' : undefined;
  return {
    os: { os: [os] },
    cpu: cpu === undefined ? {} : { cpu: [CPU[cpu] ?? cpu] },
    libc: libc === undefined ? {} : { libc: [libc] },
  };
}

if (import.meta.main) {
  const path = join(resolve(import.meta.dirname, '../..'), 'package-lock.json');
  const lock = JSON.parse(readFileSync(path, 'utf8')) as Lock;
  const missing = missingOptionals(lock);
  for (const name of Object.keys(missing)) process.stdout.write(`missing: ${name}\n`);
  if (process.argv.includes('--write')) {
    const packages = { ...lock.packages, ...missing };
    const sorted = Object.keys(packages).sort((a, b) => a.localeCompare(b, 'en'));
    lock.packages = Object.fromEntries(sorted.map((name) => [name, packages[name]!]));
    writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
  } else if (Object.keys(missing).length > 0) {
    process.stdout.write('npm ci would refuse package-lock.json: run node tools/setup/lock.ts --write\n');
    process.exitCode = 1;
  }
}
