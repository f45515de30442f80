// One line that is written over, on a terminal only: a log file is no place for a bar.
import { bytes, number, seconds, width } from './table.ts';

const EVERY_MS = 100;
const BAR = 24;

export interface Progress {
  /** `of` 0: how much there is is not known. */
  show(done: number, of: number, moved: number, words?: string): void;
  end(): void;
}

export function progress(
  stream: NodeJS.WritableStream & { isTTY?: boolean; columns?: number },
  quiet: boolean,
): Progress {
  if (quiet || stream.isTTY !== true) return { show: () => undefined, end: () => undefined };
  const began = performance.now();
  let last = 0;
  let shown = false;
  return {
    show(done, of, moved, words = '') {
      const now = performance.now();
      if (now - last < EVERY_MS) return;
      last = now;
      const elapsed = now - began;
      const rate = elapsed > 500 ? `  ${bytes((moved * 1000) / elapsed)}/s` : '';
      const share = of > 0 ? Math.min(1, done / of) : 0;
      const left = of > 0 && share > 0.01 && elapsed > 2000 ? `  ${seconds((elapsed / share) * (1 - share))} left` : '';
      const filled = Math.floor(share * BAR);
      const bar = of > 0 ? `${'█'.repeat(filled)}${'░'.repeat(BAR - filled)} ${Math.floor(share * 100)} %  ` : '';
      const counts = of > 0 ? `${number(done)} of ${number(of)}` : number(done);
      const line = `${bar}${counts}${rate}${left}${words === '' ? '' : `  ${words}`}`;
      const room = (stream.columns || 80) - 1; // 0 where a terminal does not know
      stream.write(`\r\u001b[2K${width(line) > room ? line.slice(0, room) : line}`);
      shown = true;
    },
    end() {
      if (shown) stream.write('\r\u001b[2K');
    },
  };
}
