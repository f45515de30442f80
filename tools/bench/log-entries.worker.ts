import { parentPort, workerData } from 'node:worker_threads';
import { MadeLog } from './log-entries.ts';

/** Makes the log beside whoever folds it, so that neither its CPU nor its garbage counts as the index's. */
const { shape, perCommit } = workerData as { shape: 'ct' | 'plain'; perCommit: number };
const log = new MadeLog(shape, perCommit);
parentPort!.on('message', ({ count, until }: { count: number; until: number }) => {
  const commits = log
    .commits(count, until)
    .map((one) => ({ ...one, tableOfContents: new Uint8Array(one.tableOfContents) }));
  parentPort!.postMessage(
    { commits, made: log.made },
    commits.map((one) => one.tableOfContents.buffer),
  );
});
