import { mkdirSync } from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Call } from './call.ts';
import type { Metrics } from './module.ts';
import type { Audit, AuditEvent } from './ports.ts';

/**
 * The audit trail: JSON lines in data/state/audit, with the fields of PS3.15 §A.5. It may hold patient IDs, hence mode 0600, and
 * it is part of the backup. Lines are written in the order of the events, many in one write, without an fsync each: a killed
 * process loses what was recorded within the last few milliseconds, a power cut what the kernel had not written yet.
 */
export interface AuditLimits {
  fileMax: number;
  queueMax: number;
}
export interface AuditRunning extends Audit {
  /** Not ready while events are lost because the disk does not take them; while they only wait, images come first. */
  health(): { ready: boolean; detail: string };
  close(): Promise<void>;
}

const RETRY_MS = 1_000;
const SITE = hostname();

export function auditLine(call: Call, event: AuditEvent, at: Date): string {
  return `${JSON.stringify({
    time: at.toISOString(), // EventDateTime
    event: event.event, // EventID
    action: event.action, // EventActionCode
    outcome: event.outcome, // EventOutcomeIndicator
    useCase: event.useCase,
    site: SITE, // AuditSourceID
    tenant: call.tenant,
    requestId: call.requestId,
    actor: { id: call.principal.id, kind: call.principal.kind, roles: call.principal.roles, requestor: true }, // ActiveParticipant
    ...(event.source ? { source: event.source } : {}), // NetworkAccessPoint
    objects: event.objects, // ParticipantObject
    ...(event.detail ? { detail: event.detail } : {}),
  })}\n`;
}

/**
 * The audit trail as lines of standard output, where the cluster's log collector takes it (`stream` tells them from the log's own).
 * They may hold patient IDs: whoever sets platform.auditTo routes them to where the audit trail is kept.
 */
export function streamAudit(write: (text: string) => void, metrics: Metrics): AuditRunning {
  const events = metrics.counter('gantry_audit_events_total', 'Audit events by use case and outcome');
  return {
    record(call, event) {
      events.add(1, { use_case: event.useCase, outcome: String(event.outcome) });
      write(`{"stream":"audit",${auditLine(call, event, new Date()).slice(1)}`);
    },
    health: () => ({ ready: true, detail: 'on standard output' }),
    close: async () => undefined,
  };
}

export async function fileAudit(
  directory: string,
  limits: () => AuditLimits,
  metrics: Metrics,
  log: Logger,
): Promise<AuditRunning> {
  const path = join(directory, 'audit.jsonl');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const events = metrics.counter('gantry_audit_events_total', 'Audit events by use case and outcome');
  const lost = metrics.counter('gantry_audit_events_lost_total', 'Audit events that no disk took in time');
  metrics.gauge('gantry_audit_events_waiting', 'Audit events not written yet', () => queue.length);

  let queue: string[] = [];
  let file: FileHandle | undefined;
  let size = 0;
  let failing = false;
  let writing: Promise<void> | undefined;
  let closing = false;
  const stop = new AbortController();

  const openFile = async (): Promise<FileHandle> => {
    if (file) return file;
    const opened = await open(path, 'a+', 0o600);
    ({ size } = await opened.stat());
    // A line that a kill cut short must not swallow the next one.
    const last = Buffer.alloc(1);
    if (size > 0 && (await opened.read(last, 0, 1, size - 1)).bytesRead === 1 && last[0] !== 10)
      size += (await opened.write('\n')).bytesWritten;
    return (file = opened);
  };
  const rotate = async (opened: FileHandle) => {
    await opened.datasync();
    await opened.close();
    file = undefined;
    await rename(path, join(dirname(path), `audit-${new Date().toISOString().replace(/[:.]/g, '')}.jsonl`));
  };
  const writeAll = async () => {
    while (queue.length > 0) {
      const batch = queue;
      queue = [];
      try {
        let opened = await openFile();
        if (size >= limits().fileMax) {
          await rotate(opened);
          opened = await openFile();
        }
        try {
          await opened.appendFile(batch.join(''));
        } catch (error) {
          // No half lines: what a full disk took of this batch goes again, and the whole batch is tried later.
          await opened.truncate(size);
          throw error;
        }
        size = (await opened.stat()).size;
        if (failing) log.info('the audit trail is written again');
        failing = false;
      } catch (error) {
        queue = [...batch, ...queue];
        const excess = queue.length - limits().queueMax;
        if (excess > 0) {
          queue.splice(0, excess);
          lost.add(excess);
        }
        if (!failing)
          log.error({ err: error, file: path }, 'the audit trail cannot be written: trying again until it can');
        failing = true;
        if (closing) return;
        await wait(RETRY_MS, undefined, { signal: stop.signal }).catch(() => undefined); // woken by close
      }
    }
  };
  /** In a turn of its own, so that the events of one turn share a write. */
  const kick = () => {
    writing ??= new Promise<void>((resolve) => setImmediate(resolve)).then(writeAll).finally(() => {
      writing = undefined;
      if (queue.length > 0 && !closing) kick();
    });
  };
  await openFile();

  return {
    record(call, event) {
      events.add(1, { use_case: event.useCase, outcome: String(event.outcome) });
      if (queue.length >= limits().queueMax) {
        lost.add(1);
        return;
      }
      queue.push(auditLine(call, event, new Date()));
      kick();
    },
    health: () => ({
      ready: queue.length < limits().queueMax,
      detail: failing ? `the audit trail cannot be written; ${queue.length} events wait` : 'written',
    }),
    async close() {
      closing = true;
      stop.abort();
      await writing;
      await writeAll();
      if (queue.length > 0)
        log.error({ events: queue.length }, 'audit events could not be written before the process ended');
      await file?.datasync();
      await file?.close();
      file = undefined;
    },
  };
}
