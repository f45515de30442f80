// What an import has done already, so that the same command goes on where it stopped. Digests of names only: names can be patients'.
import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, readFile, unlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const HEAD = 'gantry-import 1\n';
const KEY = 20; // hex digits of a digest: 10^6 files collide once in 10^12 imports

/** s stored, n no DICOM, d DICOMDIR, r refused: what would end the same way again. Failures are not written: they are tried again. */
export type Mark = 's' | 'n' | 'd' | 'r';

export interface Journal {
  readonly path: string;
  /** What an earlier run did with it. */
  earlier(key: string): Mark | undefined;
  readonly found: number;
  note(key: string, mark: Mark): void;
  /** Everything noted is in the file. */
  close(): Promise<void>;
  remove(): Promise<void>;
}

export function journalPath(
  env: Record<string, string | undefined>,
  server: string,
  sources: readonly string[],
): string {
  const state = env.XDG_STATE_HOME || join(homedir(), '.local', 'state');
  const name = createHash('sha256')
    .update([server, ...sources].join('\0'))
    .digest('hex')
    .slice(0, KEY);
  return join(state, 'gantry', 'imports', `${name}.journal`);
}

const digest = (key: string): string => createHash('sha256').update(key).digest('hex').slice(0, KEY);

export async function openJournal(path: string, restart: boolean): Promise<Journal> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const marks = new Map<string, Mark>();
  let text = '';
  if (!restart) {
    text = await readFile(path, 'latin1').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '';
      throw error;
    });
  }
  const sound = text.startsWith(HEAD);
  if (sound)
    for (const line of text.split('\n').slice(1))
      if (/^[0-9a-f]{20} [sndr]$/.test(line)) marks.set(line.slice(0, KEY), line[KEY + 1] as Mark);
  const file: FileHandle = await open(path, sound ? 'a' : 'w', 0o600);
  if (!sound) await file.write(HEAD);
  // A line that a kill cut short ends here; the next one begins on its own.
  else if (!text.endsWith('\n')) await file.write('\n');
  let waiting: string[] = [];
  let writing: Promise<void> | undefined;
  let failure: unknown;
  const write = async () => {
    while (waiting.length > 0) {
      const lines = waiting.join('');
      waiting = [];
      await file.appendFile(lines);
    }
  };
  return {
    path,
    earlier: (key) => marks.get(digest(key)),
    found: marks.size,
    note(key, mark) {
      waiting.push(`${digest(key)} ${mark}\n`);
      writing ??= new Promise<void>((resolve) => setImmediate(resolve))
        .then(write)
        .catch((error) => (failure = error)) // told by close: the import itself is not in danger
        .finally(() => (writing = undefined)) as Promise<void>;
    },
    async close() {
      await writing;
      if (failure === undefined) await write();
      await file.close();
      if (failure !== undefined) throw failure;
    },
    async remove() {
      await unlink(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
    },
  };
}
