import { parentPort, workerData } from 'node:worker_threads';
import { JobStore } from './job-store.ts';

/** Requests that arrive together share one transaction, hence one fsync; each is answered after the commit. */
export interface JobRequest {
  id: number;
  method: 'add' | 'claim' | 'done' | 'failed' | 'release' | 'list' | 'depth' | 'retry' | 'remove' | 'close';
  args: unknown[];
}
export type JobAnswer = { id: number; value?: unknown; error?: { code?: string; message: string } };

const port = parentPort!;
let waiting: JobRequest[] = [];

port.on('message', (request: JobRequest) => {
  if (waiting.push(request) === 1) setImmediate(flush);
});

function flush(): void {
  const batch = waiting;
  waiting = [];
  const answers: JobAnswer[] = [];
  try {
    store!.transaction(() => {
      for (const request of batch) if (request.method !== 'close') answers.push(answer(request));
    });
  } catch (error) {
    // The transaction as a whole failed (disk full, say): none of its changes happened, and each asker is told.
    for (const { id } of batch) port.postMessage({ id, error: described(error) } satisfies JobAnswer);
    return;
  }
  for (const one of answers) port.postMessage(one);
  const close = batch.find(({ method }) => method === 'close');
  if (close) {
    store!.close();
    port.postMessage({ id: close.id } satisfies JobAnswer);
    port.close();
  }
}

/** A refusal (a GantryError: a limit) concerns one request; anything else is SQLite's, and ends the transaction. */
function answer({ id, method, args }: JobRequest): JobAnswer {
  try {
    return { id, value: (store![method] as (...values: unknown[]) => unknown)(...args) };
  } catch (error) {
    if (error instanceof Error && error.name === 'GantryError') return { id, error: described(error) };
    throw error;
  }
}

/** SQLite's result codes (sqlite.org/rescode.html) as rows of our table. */
const SQLITE_CODES: Record<number, [string, string]> = {
  5: [
    'failed-precondition',
    'another Gantry process is using this data directory: stop it first, or give this one its own GANTRY_DATA_DIR',
  ],
  11: ['damaged', 'the job queue is damaged'],
  13: ['no-space', 'the disk is full'],
  26: ['damaged', 'the job queue is not a database'],
};

function described(error: unknown): { code?: string; message: string } {
  if (!(error instanceof Error)) return { message: 'unknown' };
  if (error.name === 'GantryError') return { code: (error as Error & { code: string }).code, message: error.message };
  const [code, message] = SQLITE_CODES[(error as { errcode?: number }).errcode! & 0xff] ?? [undefined, error.message];
  return { code, message };
}

const store = open((workerData as { path: string }).path);

/** Question 0 is "are you open?": its answer carries what an error event could not (a GantryError's code). */
function open(path: string): JobStore | undefined {
  try {
    const opened = new JobStore(path);
    port.postMessage({ id: 0 } satisfies JobAnswer);
    return opened;
  } catch (error) {
    port.postMessage({ id: 0, error: described(error) } satisfies JobAnswer);
    port.close(); // nothing else holds this thread: it ends, and nothing is asked of it any more
    return undefined;
  }
}
