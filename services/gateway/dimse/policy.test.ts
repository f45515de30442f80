import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { APPLICATION_CONTEXT, type AssociateRq, type RoleSelection } from '#dimse/pdu.ts';
import type { Association } from '#dimse/types.ts';
import { createTestContext, type TestContext } from '#platform/testing.ts';
import { decide } from './policy.ts';
import { dimseSettings } from './settings.ts';

const REMOTE = '10.1.2.3';
const EXPLICIT = '1.2.840.10008.1.2.1';
const IMPLICIT = '1.2.840.10008.1.2';
const BIG_ENDIAN = '1.2.840.10008.1.2.2';
const DEFLATED = '1.2.840.10008.1.2.1.99';
const JPEG = '1.2.840.10008.1.2.4.70';
const CT = '1.2.840.10008.5.1.4.1.1.2';
const FIND = '1.2.840.10008.5.1.4.1.2.2.1';
const MOVE = '1.2.840.10008.5.1.4.1.2.2.2';
const GET = '1.2.840.10008.5.1.4.1.2.2.3';
const VERIFICATION = '1.2.840.10008.1.1';
const COMMITMENT = '1.2.840.10008.1.20.1';

const rq = (
  more: Partial<AssociateRq> & { classes?: [string, ...string[]][]; roles?: RoleSelection[] } = {},
): AssociateRq => ({
  protocolVersion: 1,
  calledAeTitle: 'GANTRY',
  callingAeTitle: 'CT1',
  applicationContext: APPLICATION_CONTEXT,
  contexts: (more.classes ?? [[VERIFICATION, EXPLICIT]]).map(([abstractSyntax, ...transferSyntaxes], n) => ({
    id: 2 * n + 1,
    abstractSyntax,
    transferSyntaxes,
  })),
  user: { roles: more.roles ?? [], extended: [], commonExtended: [], ...more.user },
  ...more,
});

const open = (callingAeTitle: string, address: string): Association =>
  ({ callingAeTitle, peer: { address, port: 1 } }) as Association;

describe('whom the door serves', () => {
  let context: TestContext;
  before(async () => {
    context = await createTestContext({ tables: [dimseSettings] });
  });
  after(() => context.stop());

  const rejected = (request: AssociateRq, address = REMOTE, others: Association[] = []): string => {
    const decision = decide(context.settings, others, request, address);
    return decision.accept ? 'accepted' : `${decision.result}/${decision.source}/${decision.reason}`;
  };
  const results = (request: AssociateRq, address = REMOTE) => {
    const decision = decide(context.settings, [], request, address);
    assert.ok(decision.accept);
    return decision;
  };

  test('a called title that is not ours: 1/1/7, unless any is taken; padding does not count', () => {
    context.change({ peers: [{ aeTitle: 'CT1' }] });
    assert.equal(rejected(rq({ calledAeTitle: 'ORTHANC' })), '1/1/7');
    assert.equal(rejected(rq({ calledAeTitle: 'gantry' })), '1/1/7');
    assert.equal(rejected(rq({ calledAeTitle: ' GANTRY\0\0 ', callingAeTitle: 'CT1 \0' })), 'accepted');
    context.change({ 'dimse.acceptAnyCalledTitle': true });
    assert.equal(rejected(rq({ calledAeTitle: 'ORTHANC' })), 'accepted');
    context.change({ 'dimse.acceptAnyCalledTitle': false });
  });

  test('an unknown caller: 1/1/3 beyond loopback, unless unknown ones are taken', () => {
    context.change({ peers: [{ aeTitle: 'CT1' }] });
    const unknown = rq({ callingAeTitle: 'NEW' });
    assert.equal(rejected(unknown), '1/1/3');
    assert.equal(rejected(rq({ callingAeTitle: 'ct1' })), '1/1/3');
    for (const address of ['127.0.0.1', '::1', '::ffff:127.0.0.1'])
      assert.equal(rejected(unknown, address), 'accepted');
    context.change({ 'dimse.acceptUnknown': true });
    assert.equal(rejected(unknown), 'accepted');
    context.change({ 'dimse.acceptUnknown': false });
  });

  test('our own title is served from our own machine only', () => {
    assert.equal(rejected(rq({ callingAeTitle: 'GANTRY' })), '1/1/3');
    assert.equal(rejected(rq({ callingAeTitle: 'GANTRY' }), '127.0.0.1'), 'accepted');
  });

  test('limits: in all (dimse.associationsMax), of a peer (dimse.associationsPerPeerMax, or its own): 2/3/2', () => {
    context.change({ peers: [{ aeTitle: 'CT1' }, { aeTitle: 'CT2', associationsMax: 1 }] });
    context.change({ 'dimse.associationsMax': 3, 'dimse.associationsPerPeerMax': 2 });
    const one = open('CT1', REMOTE);
    assert.equal(rejected(rq(), REMOTE, [one]), 'accepted');
    assert.equal(rejected(rq(), REMOTE, [one, one]), '2/3/2');
    // The same title at another address is another peer.
    assert.equal(rejected(rq(), '10.1.2.4', [one, one]), 'accepted');
    const other = open('CT2', REMOTE);
    assert.equal(rejected(rq({ callingAeTitle: 'CT2' }), REMOTE, [one]), 'accepted');
    assert.equal(rejected(rq({ callingAeTitle: 'CT2' }), REMOTE, [other]), '2/3/2');
    assert.equal(rejected(rq(), REMOTE, [open('A', '1.1.1.1'), open('B', '1.1.1.2'), other]), '2/3/2');
    context.change({ 'dimse.associationsMax': 512, 'dimse.associationsPerPeerMax': 64 });
  });

  test('services that a peer is not allowed are refused context by context', () => {
    context.change({ peers: [{ aeTitle: 'CT1', services: ['echo', 'store'] }] });
    const classes: [string, string][] = [VERIFICATION, CT, FIND, MOVE, GET, COMMITMENT].map((uid) => [uid, EXPLICIT]);
    assert.deepEqual(
      results(rq({ classes })).contexts.map(({ result }) => result),
      [0, 0, 3, 3, 3, 3],
    );
    context.change({ peers: [{ aeTitle: 'CT1' }] });
    assert.ok(results(rq({ classes })).contexts.every(({ result }) => result === 0));
  });

  test('who may retrieve but not store gets storage contexts to receive on, and no others', () => {
    context.change({ peers: [{ aeTitle: 'CT1', services: ['get'] }] });
    const classes: [string, string][] = [
      [GET, EXPLICIT],
      [CT, EXPLICIT],
    ];
    assert.deepEqual(
      results(rq({ classes })).contexts.map(({ result }) => result),
      [0, 3],
    );
    const decision = results(rq({ classes, roles: [{ sopClassUid: CT, scu: true, scp: true }] }));
    assert.deepEqual(
      decision.contexts.map(({ result }) => result),
      [0, 0],
    );
    assert.deepEqual(decision.roles, [{ sopClassUid: CT, scu: false, scp: true }]);
    // And the other way round.
    context.change({ peers: [{ aeTitle: 'CT1', services: ['store'] }] });
    const storing = results(rq({ classes, roles: [{ sopClassUid: CT, scu: true, scp: true }] }));
    assert.deepEqual(storing.roles, [{ sopClassUid: CT, scu: true, scp: false }]);
    context.change({ peers: [{ aeTitle: 'CT1' }] });
  });

  test('classes: storage of any kind, private and retired ones; not Non-Patient Objects, Inventories, DICOMDIR, worklists', () => {
    const taken = [CT, '1.2.840.10008.5.1.4.1.1.6', '1.2.826.0.1.3680043.2.1125.9.9', '1.2.840.10008.5.1.4.1.1.66'];
    const refused = [
      '1.2.840.10008.5.1.4.38.1', // Hanging Protocol Storage
      '1.2.840.10008.5.1.4.43.1', // Generic Implant Template Storage
      '1.2.840.10008.5.1.4.1.1.201.1', // Inventory Storage
      '1.2.840.10008.1.3.10', // Media Storage Directory
      '1.2.840.10008.5.1.4.31', // Modality Worklist
      '1.2.840.10008.5.1.1.1', // Basic Film Session
    ];
    const { contexts } = results(rq({ classes: [...taken, ...refused].map((uid) => [uid, EXPLICIT]) }));
    assert.deepEqual(
      contexts.map(({ result }) => result),
      [...taken.map(() => 0), ...refused.map(() => 3)],
    );
  });

  test('transfer syntaxes: any for storage, the little endian ones for identifiers; Explicit before Implicit', () => {
    const chosen = (...syntaxes: [string, ...string[]]) => {
      const { contexts } = results(
        rq({
          classes: [
            [CT, ...syntaxes],
            [FIND, ...syntaxes],
          ],
        }),
      );
      return contexts.map(({ result, transferSyntax }) => (result === 0 ? transferSyntax : result));
    };
    assert.deepEqual(chosen(IMPLICIT, EXPLICIT), [EXPLICIT, EXPLICIT]);
    assert.deepEqual(chosen(JPEG, EXPLICIT), [JPEG, EXPLICIT]);
    assert.deepEqual(chosen(BIG_ENDIAN, DEFLATED, IMPLICIT), [IMPLICIT, IMPLICIT]);
    assert.deepEqual(chosen('1.2.3.4.5'), ['1.2.3.4.5', 4]);
    assert.deepEqual(chosen(BIG_ENDIAN), [BIG_ENDIAN, 4]);
    assert.deepEqual(chosen(DEFLATED), [DEFLATED, 4]);
  });

  test('extended negotiation: only what was asked for, and only what we do', () => {
    const answer = (sopClassUid: string, ...info: number[]) =>
      results(
        rq({
          classes: [[sopClassUid, EXPLICIT]],
          user: {
            roles: [],
            commonExtended: [],
            extended: [{ sopClassUid, info: Buffer.from(info) }],
          },
        }),
      ).extended?.map((item) => [...item.info])[0];
    assert.deepEqual(answer(FIND, 1), [1]);
    assert.deepEqual(answer(FIND, 0, 1, 0), [0, 1, 0]);
    assert.deepEqual(answer(FIND, 1, 1, 1, 1, 1, 1, 1), [1, 1, 1, 1, 0, 1, 1]); // no conversion to enhanced multi-frame
    assert.deepEqual(answer(FIND, 1, 1, 1, 1, 1, 1, 1, 9, 9), [1, 1, 1, 1, 0, 1, 1]);
    assert.deepEqual(answer(MOVE, 1, 1), [1, 0]);
    assert.deepEqual(answer(GET, 0), [0]);
    assert.deepEqual(answer(CT, 2, 0, 0, 0, 0, 0), [2, 0, 3, 0, 0, 0]);
    assert.equal(answer(VERIFICATION, 1), undefined);
  });

  test('a peer has its own maximum length', () => {
    context.change({ peers: [{ aeTitle: 'CT1', pduLengthMax: 4096 }] });
    assert.equal(results(rq()).pduLengthMax, 4096);
    context.change({ peers: [{ aeTitle: 'CT1' }] });
    assert.equal(results(rq()).pduLengthMax, undefined);
  });
});
