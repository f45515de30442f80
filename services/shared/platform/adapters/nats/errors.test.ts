import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JetStreamApiError } from '@nats-io/jetstream';
import { errors } from '@nats-io/transport-node';
import { isPassing, toError } from './errors.ts';

/** As nats-server 2.15 says it (server/errors.json). */
const said = (code: number, status: number, description: string) =>
  new JetStreamApiError({ code: status, err_code: code, description });

// The window in which a real server says the first of these is a fraction of a second: a test against one meets it now and then.
const ROWS: [what: string, error: unknown, code: string, passing: boolean][] = [
  ['no peers', said(10005, 400, 'no suitable peers for placement, peer offline'), 'unavailable', true],
  ['no stream yet', said(10059, 404, 'stream not found'), 'unavailable', true],
  ['no leader', said(10008, 503, 'JetStream system temporarily unavailable'), 'unavailable', true],
  ['silence', new errors.TimeoutError(), 'unavailable', true],
  ['changed meanwhile', said(10071, 400, 'wrong last sequence: 3'), 'conflict', false],
  ['no room', said(10047, 500, 'insufficient storage resources available'), 'no-space', false],
  ['too long', said(10054, 400, 'message size exceeds maximum allowed'), 'too-large', false],
  ['anything else', said(10025, 400, 'bad request'), 'internal', false],
];

for (const [what, error, code, passing] of ROWS)
  test(`${what}: ${code}, ${passing ? 'tried again' : 'not tried again'}`, () => {
    assert.equal(toError(error, 'writing').code, code);
    assert.equal(isPassing(error), passing);
  });
