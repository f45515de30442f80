import { Worker } from 'node:worker_threads';
import { ERRORS, type ErrorCode, GantryError } from '#platform/errors.ts';
import { MissingHeads } from '../../state/heads.ts';

/** An error on its way between threads: codes survive, and what the index needs to mend itself. */
export interface CarriedError {
  code: ErrorCode | 'missing-heads';
  message: string;
  stack: string;
  detail?: unknown;
}

export function carry(error: unknown): CarriedError {
  if (error instanceof GantryError) return { code: error.code, message: error.message, stack: error.stack ?? '' };
  if (error instanceof MissingHeads)
    return { code: 'missing-heads', message: error.message, stack: '', detail: error.entries };
  const cause = error instanceof Error ? error : new Error(String(error));
  // SQLite says which database error it was; statements carry no values (they are bound).
  return { code: 'internal', message: cause.message, stack: cause.stack ?? '' };
}

export function uncarry(carried: CarriedError): Error {
  if (carried.code === 'missing-heads') return new MissingHeads(carried.detail as MissingHeads['entries']);
  const cause = new Error(carried.message);
  cause.stack = carried.stack;
  if (carried.code in ERRORS && carried.code !== 'internal')
    return new GantryError(carried.code, carried.message, { cause });
  return new GantryError('internal', 'the index could not answer', { cause });
}

type Answer = { id: number; value?: unknown; error?: CarriedError };

/** A worker thread that answers each numbered message once. When it dies, whoever waits is told, and nobody waits in vain later. */
export class Thread {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #next = 1;
  #dead: Error | undefined;

  constructor(file: URL, data: unknown, onDeath: (error: Error) => void) {
    this.#worker = new Worker(file, { workerData: data });
    this.#worker.on('message', (answer: Answer) => {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if (answer.error) waiting?.reject(uncarry(answer.error));
      else waiting?.resolve(answer.value);
    });
    const die = (cause: Error): void => {
      if (this.#dead) return;
      this.#dead = new GantryError('unavailable', 'a thread of the index ended', { cause });
      for (const { reject } of this.#waiting.values()) reject(this.#dead);
      this.#waiting.clear();
      onDeath(cause);
    };
    this.#worker.on('error', (error) => die(error instanceof Error ? error : new Error(String(error))));
    this.#worker.on('exit', (code) => die(new Error(`it exited with ${code}`)));
  }

  ask<T>(op: string, args?: unknown): Promise<T> {
    if (this.#dead) return Promise.reject(this.#dead);
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.#worker.postMessage({ id, op, args });
    });
  }

  /** After its own `close` has answered. */
  async end(): Promise<void> {
    this.#dead ??= new GantryError('unavailable', 'the index has stopped');
    await this.#worker.terminate();
  }
}
