// Nothing that a test starts outlives it, not even when the test is killed with -9: see watchdog.sh.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

let watchdog: ChildProcess | undefined;

function tell(what: 'pid' | 'gone' | 'dir' | 'removed', value: string | number): void {
  if (watchdog === undefined) {
    // In a session of its own, so that the Ctrl-C that ends us does not end it first.
    watchdog = spawn('bash', [join(import.meta.dirname, 'watchdog.sh')], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      cwd: '/',
    });
    // It waits for us, we do not wait for it.
    watchdog.unref();
    (watchdog.stdin as unknown as { unref(): void }).unref();
    watchdog.stdin!.on('error', () => {
      // Somebody killed the watchdog: servers still die with us (setpriv), only folders could stay.
      watchdog = undefined;
    });
  }
  watchdog.stdin!.write(`${what} ${value}\n`);
}

export function watchProcess(pid: number): () => void {
  tell('pid', pid);
  return () => tell('gone', pid);
}

export interface WatchedFolder {
  readonly path: string;
  remove(): void;
}

/** A temporary folder that is removed by `remove`, or when this process ends in whatever way. */
export function temporaryFolder(name: string): WatchedFolder {
  const path = mkdtempSync(join(tmpdir(), `gantry-${name}-`));
  tell('dir', path);
  return {
    path,
    remove() {
      rmSync(path, { recursive: true, force: true, maxRetries: 5 });
      tell('removed', path);
    },
  };
}
