import assert from 'node:assert/strict';
import { test } from 'node:test';
import { negotiate, orderTransferSyntaxes } from './negotiate.ts';
import { associateRq, CT, EXPLICIT, FIND, IMPLICIT, VERIFICATION } from './parrot.fixture.ts';
import { type AssociateRq, PDU } from './pdu.ts';

const BIG = '1.2.840.10008.1.2.2';
const DEFLATED = '1.2.840.10008.1.2.1.99';
const JPEG = '1.2.840.10008.1.2.4.70';

function rq(changes: Partial<AssociateRq>): AssociateRq {
  const pdu = associateRq(changes);
  assert.ok(pdu.type === PDU.ASSOCIATE_RQ);
  return pdu;
}

test('the proposer’s order, but Explicit before Implicit, Deflated and Big Endian last', () => {
  for (const [proposed, ordered] of [
    [
      [IMPLICIT, EXPLICIT],
      [EXPLICIT, IMPLICIT],
    ],
    [
      [EXPLICIT, IMPLICIT],
      [EXPLICIT, IMPLICIT],
    ],
    [[IMPLICIT], [IMPLICIT]],
    [
      [BIG, IMPLICIT, EXPLICIT],
      [EXPLICIT, IMPLICIT, BIG],
    ],
    [
      [IMPLICIT, JPEG, EXPLICIT],
      [EXPLICIT, IMPLICIT, JPEG],
    ],
    [
      [JPEG, IMPLICIT, EXPLICIT],
      [JPEG, EXPLICIT, IMPLICIT],
    ],
    [
      [BIG, DEFLATED, JPEG],
      [JPEG, DEFLATED, BIG],
    ],
    [[JPEG, JPEG], [JPEG]],
    [[], []],
  ] as const) {
    assert.deepEqual(orderTransferSyntaxes(proposed), ordered);
  }
});

test('one answer for each context, by what the policy takes', () => {
  const contexts = [
    { id: 1, abstractSyntax: VERIFICATION, transferSyntaxes: [IMPLICIT, EXPLICIT] },
    { id: 3, abstractSyntax: CT, transferSyntaxes: [JPEG] },
    { id: 5, abstractSyntax: CT, transferSyntaxes: [BIG] },
    { id: 7, abstractSyntax: FIND, transferSyntaxes: [EXPLICIT] },
    { id: 9, abstractSyntax: '', transferSyntaxes: [EXPLICIT] },
    { id: 11, abstractSyntax: CT, transferSyntaxes: [] },
  ];
  const answer = negotiate(rq({ contexts }), {
    abstractSyntax: (uid) => uid !== FIND,
    transferSyntax: (_, uid) => uid !== BIG,
  });
  assert.deepEqual(
    answer.contexts.map(({ id, result }) => [id, result]),
    [
      [1, 0],
      [3, 0],
      [5, 4],
      [7, 3],
      [9, 3],
      [11, 4],
    ],
  );
  assert.equal(answer.contexts[0]!.transferSyntax, EXPLICIT);
  assert.equal(answer.contexts[1]!.transferSyntax, JPEG);
});

test('roles: only what was proposed, only for accepted classes, never SCP unasked', () => {
  const user = { roles: [], extended: [], commonExtended: [] };
  const roles = [
    { sopClassUid: CT, scu: false, scp: true },
    { sopClassUid: CT, scu: true, scp: true },
    { sopClassUid: VERIFICATION, scu: true, scp: false },
    { sopClassUid: '1.2.3', scu: true, scp: true },
  ];
  const policy = { abstractSyntax: () => true, transferSyntax: () => true };
  assert.deepEqual(negotiate(rq({ user: { ...user, roles } }), policy).roles, [
    { sopClassUid: CT, scu: false, scp: false },
    { sopClassUid: VERIFICATION, scu: true, scp: false },
  ]);
  const generous = { ...policy, role: () => ({ scu: true, scp: true }) };
  assert.deepEqual(negotiate(rq({ user: { ...user, roles } }), generous).roles, [
    { sopClassUid: CT, scu: false, scp: true },
    { sopClassUid: VERIFICATION, scu: true, scp: false },
  ]);
});

test('extended negotiation is answered where the policy has an answer', () => {
  const user = { roles: [], commonExtended: [] };
  const extended = [
    { sopClassUid: FIND, info: Buffer.from([1, 1, 1]) },
    { sopClassUid: CT, info: Buffer.from([2]) },
  ];
  const answer = negotiate(rq({ user: { ...user, extended } }), {
    abstractSyntax: () => true,
    transferSyntax: () => true,
    extended: (uid, info) => (uid === FIND ? Buffer.from([info[0]!, 0, 0]) : undefined),
  });
  assert.deepEqual(answer.extended, [{ sopClassUid: FIND, info: Buffer.from([1, 0, 0]) }]);
});
