import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AuditEvent } from '#platform/ports.ts';
import { auditStored, noteStored, type Session } from './session.ts';

function session(): { session: Session; records: AuditEvent[] } {
  const records: AuditEvent[] = [];
  const audit = { record: (_call: unknown, event: AuditEvent) => void records.push(event) };
  const one = {
    door: { context: { audit } },
    association: { callingAeTitle: 'CT', peer: { address: '127.0.0.1' } },
    unaudited: { instances: 0, refused: 0, studies: new Set<string>(), sinceMs: 0 },
  };
  return { session: one as unknown as Session, records };
}

test('what is stored is recorded while the association is open, and memory of it does not grow', () => {
  const { session: one, records } = session();
  for (let n = 0; n < 1100; n++) noteStored(one, n % 11 === 0 ? undefined : `1.2.${n}`);
  assert.deepEqual(
    records.map(({ detail }) => Number(detail!.instances) + Number(detail!.refused)),
    [500, 500],
  );
  assert.ok(one.unaudited.studies.size <= 100);
  auditStored(one);
  auditStored(one); // nothing is left: no empty record
  assert.equal(records.length, 3);
  const sum = (of: 'instances' | 'refused') => records.reduce((all, { detail }) => all + Number(detail![of]), 0);
  assert.deepEqual([sum('instances'), sum('refused')], [1000, 100]);
  assert.equal(new Set(records.flatMap(({ objects }) => objects.map(({ id }) => id))).size, 1000);
  assert.ok(records.every(({ useCase, outcome }) => useCase === 'dimse.c-store' && outcome === 4));
});
