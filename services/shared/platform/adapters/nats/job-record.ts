import { GantryError } from '../../errors.ts';
import type { JobRow } from '../../ports.ts';
import type { StoredRecord } from './records.ts';

/**
 * A job is one record: what it is and how it stands in one header (so that a worker's index needs no payloads), its payload as the body.
 * A later format is left alone by a process that does not know it: during an upgrade the newer ones work on it.
 */
const FORMAT = 1;
const JOB = 'Gantry-Job';

export interface JobState {
  queue: string;
  tenant: string;
  key: string;
  /** A ULID: the order in which jobs were added. */
  id: string;
  state: JobRow['state'];
  /** Added once more while it ran: it runs again. */
  again: boolean;
  /** Begun, so that a job that kills its process ends as a dead letter. */
  attempts: number;
  notBefore: number;
  lastError: string;
  /** The process that runs it; empty: none. */
  owner: string;
}

export const LAST_ERROR_MAX = 500;

/** ASCII on one line, whatever a key holds: headers are text of a line protocol. */
export function jobHeader(state: JobState): Record<string, string> {
  const text = JSON.stringify({ format: FORMAT, ...state, lastError: state.lastError.slice(0, LAST_ERROR_MAX) });
  return { [JOB]: text.replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`) };
}

/** Undefined: none that this release understands. */
export function jobState(record: StoredRecord): JobState | undefined {
  try {
    const { format, ...state } = JSON.parse(record.header(JOB)) as JobState & { format: number };
    return format === FORMAT ? state : undefined;
  } catch {
    return undefined; // a message of somebody else
  }
}

export function known(record: StoredRecord): JobState {
  const state = jobState(record);
  if (!state) throw new GantryError('failed-precondition', 'this job was written by a newer Gantry');
  return state;
}
