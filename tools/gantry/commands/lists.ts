// Commands that show what the API lists: conflicts, commitments, the job queue.
import { type Command, EXIT, usage } from '../command.ts';
import { type Column, table } from '../table.ts';

interface Conflict {
  kind: string;
  studyInstanceUid: string;
  seriesInstanceUid: string;
  sopInstanceUid: string;
  detail: string;
}
export const conflictsCommand: Command = {
  usage: '',
  summary: 'studies whose instances disagree, and instances that came in several versions',
  text: `Nothing is lost in a conflict: every version is kept, and one of them shows. Exit code 0 with or without conflicts.`,
  examples: [{ line: 'gantry conflicts --json | jq length', says: 'how many there are' }],
  options: {},
  takes: { least: 0, most: 0 },
  async run(house) {
    const { conflicts } = await house.client.json<{ conflicts: Conflict[] }>('GET', '/api/v1/conflicts');
    const columns: Column<Conflict>[] = [
      { title: 'KIND', value: (row) => row.kind },
      { title: 'STUDY', value: (row) => row.studyInstanceUid },
      { title: 'INSTANCE', value: (row) => row.sopInstanceUid },
      { title: 'WHAT', value: (row) => row.detail, max: 80 },
    ];
    if (house.json) house.printJson(conflicts);
    else if (conflicts.length === 0) house.note('no conflicts\n');
    else house.print(table(conflicts, columns));
    return EXIT.ok;
  },
};

interface Commitment {
  transactionUid: string;
  aeTitle: string;
  state: string;
  references: number;
  attempts: number;
  nextAttempt: string;
  lastError: string;
}
export const commitmentsCommand: Command = {
  usage: '',
  summary: 'storage commitment reports that wait to be delivered',
  text: `A peer that asked for storage commitment gets its report once every instance was read back and its digest is right.`,
  examples: [{ line: 'gantry commitments', says: 'who still waits, and why' }],
  options: {},
  takes: { least: 0, most: 0 },
  async run(house) {
    const { commitments } = await house.client.json<{ commitments: Commitment[] }>('GET', '/api/v1/commitments');
    const columns: Column<Commitment>[] = [
      { title: 'PEER', value: (row) => row.aeTitle },
      { title: 'TRANSACTION', value: (row) => row.transactionUid },
      { title: 'STATE', value: (row) => row.state },
      { title: 'INSTANCES', value: (row) => row.references, right: true },
      { title: 'ATTEMPTS', value: (row) => row.attempts, right: true },
      { title: 'NEXT', value: (row) => row.nextAttempt },
      { title: 'LAST ERROR', value: (row) => row.lastError, max: 60 },
    ];
    if (house.json) house.printJson(commitments);
    else if (commitments.length === 0) house.note('no report waits\n');
    else house.print(table(commitments, columns));
    return EXIT.ok;
  },
};

interface Job {
  queue: string;
  key: string;
  state: string;
  attempts: number;
  nextAttempt?: string;
  lastError?: string;
}
export const queueCommand: Command = {
  usage: 'ls | retry QUEUE KEY | remove QUEUE KEY',
  summary: 'durable jobs: list them, try one again now, or give one up',
  text: `A job that failed too often is dead and stays until somebody retries or removes it. Exit code 1 of ls when one is dead.`,
  examples: [
    { line: 'gantry queue ls', says: 'what waits, runs or is dead' },
    { line: 'gantry queue retry dimse.commitment 2.25.17', says: 'now instead of later' },
  ],
  options: {},
  takes: { least: 1, most: 3 },
  async run(house, given) {
    const [what, queue, key] = given.positionals;
    if (what !== 'ls' && what !== 'retry' && what !== 'remove') throw usage('it is ls, retry or remove');
    if (what === 'ls') {
      if (queue !== undefined) throw usage('ls takes nothing more');
      const { jobs } = await house.client.json<{ jobs: Job[] }>('GET', '/api/v1/queue');
      if (house.json) house.printJson(jobs);
      else if (jobs.length === 0) house.note('the queues are empty\n');
      else
        house.print(
          table(jobs, [
            { title: 'QUEUE', value: (row) => row.queue },
            { title: 'KEY', value: (row) => row.key },
            { title: 'STATE', value: (row) => row.state },
            { title: 'ATTEMPTS', value: (row) => row.attempts, right: true },
            { title: 'NEXT', value: (row) => row.nextAttempt },
            { title: 'LAST ERROR', value: (row) => row.lastError, max: 60 },
          ]),
        );
      return jobs.some((job) => job.state === 'dead') ? EXIT.failed : EXIT.ok;
    }
    if (queue === undefined || key === undefined) throw usage(`${what} takes a queue and a key, as ls shows them`);
    const path = `/api/v1/queue/${encodeURIComponent(queue)}/${encodeURIComponent(key)}`;
    const answer =
      what === 'retry' ? await house.client.json('POST', `${path}/retry`) : await house.client.json('DELETE', path);
    if (house.json) house.printJson(answer);
    else house.print(what === 'retry' ? 'it is tried again now\n' : 'removed\n');
    return EXIT.ok;
  },
};
