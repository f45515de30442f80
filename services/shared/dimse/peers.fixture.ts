/** Test support: where the independent peers are. Missing ones are skipped on a desk, and fail in CI. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const VENV = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'gantry', 'py', 'bin', 'python');
const found = new Map<string, string | undefined>();

/** A Python that can import `module`: that of our venv, else the system's. */
export function pythonWith(module: string): string | undefined {
  if (!found.has(module)) {
    const usable = [VENV, 'python3'].find(
      (python) =>
        (python === 'python3' || existsSync(python)) && spawnSync(python, ['-c', `import ${module}`]).status === 0,
    );
    found.set(module, usable);
  }
  return found.get(module);
}

export function dcmtk(tool: string): string | undefined {
  try {
    return execFileSync('which', [tool], { encoding: 'utf8' }).trim();
  } catch {
    return undefined; // `which` says no by its exit code
  }
}

/** For `skip`: false when the peer is there, else why not. With CI=true its absence is a failure, not a skip. */
export function without(peer: 'pynetdicom' | 'dcmtk'): string | false {
  const there = peer === 'pynetdicom' ? pythonWith('pynetdicom') !== undefined : dcmtk('storescu') !== undefined;
  if (!there && process.env.CI === 'true') throw new Error(`${peer} is not installed, and CI must not skip its tests`);
  return there ? false : `${peer} is not installed`;
}
