// The DIMSE door against pynetdicom: each scenario is asserted in Python (python/dimse.py).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { connect } from '#dimse/requestor.ts';
import { instance, keep, type TestHouse } from '../../services/gateway/dimse/house.testing.ts';
import { pythonWithPynetdicom, without } from '../setup/peers.ts';
import { freePort, type GantryServer, startServer } from './server.ts';

const run = promisify(execFile);

describe('pynetdicom at the DIMSE door', { skip: without('pynetdicom'), timeout: 10 * 60_000 }, () => {
  let server: GantryServer;
  let own: number;

  before(async () => {
    own = await freePort();
    server = await startServer({
      yaml: `dimse:\n  pendingMs: 200ms\npeers:\n${['PYSCP', 'PYSCU']
        .map((title) => `  - aeTitle: ${title}\n    host: 127.0.0.1\n    port: ${own}\n`)
        .join('')}`,
    });
    // Enough rows that a query is still at work when its C-CANCEL comes.
    const door = {
      connect: (more = {}) =>
        connect({
          host: '127.0.0.1',
          port: server.dimsePort,
          callingAeTitle: 'PYSCU', // its own queries wait for what it sent
          calledAeTitle: 'GANTRY',
          contexts: [],
          ...more,
        }),
    } as TestHouse;
    await keep(door, ...Array.from({ length: 500 }, (_, n) => instance(n, { study: '1.3.9', series: '1.3.9.1' })));
  });
  after(() => server?.close());

  for (const [scenario, says] of [
    ['store', 'C-ECHO, C-STORE in two syntaxes, a refusal with its Offending Element'],
    ['find', 'C-FIND: Patient Root, Study Root and Patient/Study Only at every level'],
    ['relational', 'relational queries by extended negotiation'],
    ['cancel', 'C-CANCEL of a C-FIND: FE00'],
    ['get', 'C-GET with role selection, and without'],
    ['move', 'C-MOVE: live counters, bytes, originator, A801, A900, nothing matched, to ourselves'],
    ['failures', 'C-MOVE: some failed, compressed, nobody there, Implicit only'],
    ['slow', 'C-MOVE to a slow destination: pending responses meanwhile'],
    ['commitment', 'storage commitment: reports on a new association with role selection'],
    ['negotiation', 'user identity, asynchronous operations, a called title that is not ours'],
  ] as const)
    test(says, async () => {
      await run(
        pythonWithPynetdicom(),
        [join(import.meta.dirname, 'python', 'dimse.py'), scenario, String(server.dimsePort), String(own)],
        { timeout: 120_000 },
      ).catch((error: { stderr: string }) => assert.fail(`${error.stderr}\n${server.log().slice(-3000)}`));
    });
});
