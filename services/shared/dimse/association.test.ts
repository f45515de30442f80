import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listen } from './acceptor.ts';
import { COMMAND } from './command.ts';
import { negotiate } from './negotiate.ts';
import { connect } from './requestor.ts';
import { echo, find, get, store } from './scu.ts';
import type { Association, ListenOptions } from './types.ts';

const VERIFICATION = '1.2.840.10008.1.1';
const CT = '1.2.840.10008.5.1.4.1.1.2';
const FIND = '1.2.840.10008.5.1.4.1.2.2.1';
const GET = '1.2.840.10008.5.1.4.1.2.2.3';
const EXPLICIT = '1.2.840.10008.1.2.1';
const IMPLICIT = '1.2.840.10008.1.2';
const all = [VERIFICATION, CT, FIND, GET].map((abstractSyntax) => ({
  abstractSyntax,
  transferSyntaxes: [IMPLICIT, EXPLICIT],
}));

async function scp(serve: (association: Association) => Promise<void>, extra: Partial<ListenOptions> = {}) {
  return listen({
    host: '127.0.0.1',
    port: 0,
    onRequest: (rq) => negotiate(rq, { abstractSyntax: () => true, transferSyntax: () => true, role: (r) => r }),
    onAssociation: serve,
    onError: (error) => {
      throw error;
    },
    ...extra,
  });
}
const options = (port: number) => ({
  host: '127.0.0.1',
  port,
  callingAeTitle: 'SCU',
  calledAeTitle: 'SCP',
  contexts: all,
});

test('echo, store, find, get over one association', async () => {
  const stored: Buffer[] = [];
  const acceptor = await scp(async (association) => {
    for await (const message of association.messages()) {
      switch (message.command.commandField) {
        case COMMAND.C_STORE_RQ:
          stored.push(await message.whole(1e9));
          await association.respond(message, { status: 0 });
          break;
        case COMMAND.C_FIND_RQ:
          await message.whole(1e6);
          for (let n = 0; n < 3; n++) await association.respond(message, { status: 0xff00 }, Buffer.from([n, 0]));
          await association.respond(message, { status: 0 });
          break;
        case COMMAND.C_GET_RQ: {
          await message.whole(1e6);
          const context = association.findContext(CT, undefined, 'scu')!;
          for (let n = 0; n < 3; n++) {
            const result = await store(association, {
              contextId: context.id,
              sopClassUid: CT,
              sopInstanceUid: `1.${n}`,
              data: Buffer.alloc(1_000_000, n),
            });
            assert.equal(result.status, 0);
          }
          await association.respond(message, { status: 0, completedSubOperations: 3 });
          break;
        }
        default:
          await association.respond(message, { status: 0 });
      }
    }
  });
  const association = await connect({ ...options(acceptor.port), roles: [{ sopClassUid: CT, scu: true, scp: true }] });
  assert.equal((await echo(association)).status, 0);
  const data = Buffer.alloc(3_000_001, 7);
  const context = association.findContext(CT)!;
  assert.equal(context.transferSyntax, EXPLICIT);
  assert.equal(
    (await store(association, { contextId: context.id, sopClassUid: CT, sopInstanceUid: '1.2', data })).status,
    0,
  );
  assert.ok(stored[0]!.equals(data));
  const statuses: number[] = [];
  for await (const response of find(association, FIND, Buffer.from('ab'))) statuses.push(response.status);
  assert.deepEqual(statuses, [0xff00, 0xff00, 0xff00, 0]);
  const got: number[] = [];
  for await (const response of get(association, GET, Buffer.from('ab'), async (incoming) => {
    got.push((await incoming.whole(1e7)).length);
    return 0;
  }))
    assert.equal(response.command.completedSubOperations, 3);
  assert.deepEqual(got, [1e6, 1e6, 1e6]);
  await association.release();
  assert.equal((await association.closed).kind, 'released');
  await acceptor.close(1000);
});
