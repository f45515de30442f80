import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import pino from 'pino';
import { fileAudit } from './audit.ts';
import { systemCall } from './call.ts';
import { createMetrics } from './metrics.ts';
import type { AuditEvent } from './ports.ts';

const event = (useCase: string, id = '1.2.3'): AuditEvent => ({
  event: 'Query',
  action: 'E',
  outcome: 0,
  useCase,
  objects: [{ type: 'study', id }],
  source: { aeTitle: 'CT1', address: '10.0.0.1' },
});

async function withAudit(
  limits: { fileMax: number; queueMax: number },
  run: (directory: string, open: () => ReturnType<typeof fileAudit>, expose: () => Promise<string>) => Promise<void>,
) {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-audit-'));
  const metrics = createMetrics();
  try {
    await run(
      directory,
      () => fileAudit(directory, () => limits, metrics, pino({ level: 'silent' })),
      () => metrics.expose(),
    );
  } finally {
    await metrics.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
const lines = (path: string) =>
  readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

test('every event is a line, in order, with who, what, whose and how it went; for the owner only', () =>
  withAudit({ fileMax: 1e6, queueMax: 1e4 }, async (directory, open, expose) => {
    const audit = await open();
    const call = {
      ...systemCall('main', 'r-1'),
      principal: { id: 'CT1', kind: 'ae', roles: ['peer'], tenant: 'main' },
    };
    for (let n = 0; n < 500; n++) {
      audit.record(call, event('dimse.c-find', `1.${n}`));
      if (n % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await audit.close();
    const path = join(directory, 'audit.jsonl');
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const all = lines(path);
    assert.deepEqual(
      all.map(({ objects }) => objects[0].id),
      Array.from({ length: 500 }, (_, n) => `1.${n}`),
    );
    const { time, site, ...first } = all[0];
    assert.ok(Date.parse(time) > 0 && site.length > 0);
    assert.deepEqual(first, {
      event: 'Query',
      action: 'E',
      outcome: 0,
      useCase: 'dimse.c-find',
      tenant: 'main',
      requestId: 'r-1',
      actor: { id: 'CT1', kind: 'ae', roles: ['peer'], requestor: true },
      source: { aeTitle: 'CT1', address: '10.0.0.1' },
      objects: [{ type: 'study', id: '1.0' }],
    });
    assert.match(await expose(), /gantry_audit_events_total\{use_case="dimse.c-find",outcome="0"\} 500/);
  }));

test('a line that a kill cut short does not swallow the next', () =>
  withAudit({ fileMax: 1e6, queueMax: 1e4 }, async (directory, open) => {
    writeFileSync(join(directory, 'audit.jsonl'), '{"cut');
    const audit = await open();
    audit.record(systemCall('main', 'r'), event('u'));
    await audit.close();
    const text = readFileSync(join(directory, 'audit.jsonl'), 'utf8').split('\n');
    assert.equal(text[0], '{"cut');
    assert.equal(JSON.parse(text[1]).useCase, 'u');
  }));

test('a full file is closed and a new one begun; nothing is lost between', () =>
  withAudit({ fileMax: 2_000, queueMax: 1e4 }, async (directory, open) => {
    const audit = await open();
    for (let n = 0; n < 40; n++) {
      audit.record(systemCall('main', 'r'), event('u', String(n)));
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await audit.close();
    const files = readdirSync(directory).sort((a, b) =>
      a === 'audit.jsonl' ? 1 : b === 'audit.jsonl' ? -1 : a < b ? -1 : 1,
    );
    assert.ok(files.length > 1, String(files));
    assert.deepEqual(
      files.flatMap((file) => lines(join(directory, file)).map(({ objects }) => Number(objects[0].id))),
      Array.from({ length: 40 }, (_, n) => n),
    );
  }));

test('platform.auditQueueMax: what no disk takes is counted, and the process says that it is not well', () =>
  withAudit({ fileMax: 1e6, queueMax: 10 }, async (directory, open, expose) => {
    const audit = await open();
    assert.equal(audit.health().ready, true);
    for (let n = 0; n < 25; n++) audit.record(systemCall('main', 'r'), event('u', String(n)));
    assert.equal(audit.health().ready, false);
    await audit.close();
    assert.equal(audit.health().ready, true);
    assert.equal(lines(join(directory, 'audit.jsonl')).length, 10);
    assert.match(await expose(), /gantry_audit_events_lost_total 15/);
  }));
