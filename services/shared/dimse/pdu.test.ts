import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fuzzPdus } from './fuzz.ts';
import { decodePdu, encodePdu, PDU, PDU_HEADER_LENGTH, type Pdu, PduError, type UserInformation } from './pdu.ts';
import { PduReader } from './reader.ts';

const LIMITS = { controlPduLengthMax: 512 * 1024, pduLengthReceived: 1 << 26 };
const u8 = fc.integer({ min: 0, max: 255 });
const u16 = fc.integer({ min: 0, max: 0xffff });
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const uid = fc.stringMatching(/^[0-9][0-9.]{0,62}[0-9]$/);
const title = fc.stringMatching(/^[A-Z0-9_][A-Z0-9_ ]{0,13}[A-Z0-9_]$/);
const version = fc.stringMatching(/^[A-Za-z0-9_]{1,16}$/);

const user: fc.Arbitrary<UserInformation> = fc.record(
  {
    maxPduLength: fc.integer({ min: 0, max: 0xffffffff }),
    implementationClassUid: uid,
    implementationVersionName: version,
    asyncOperations: fc.record({ invoked: u16, performed: u16 }),
    roles: fc.array(fc.record({ sopClassUid: uid, scu: fc.boolean(), scp: fc.boolean() }), { maxLength: 4 }),
    extended: fc.array(fc.record({ sopClassUid: uid, info: bytes(20) }), { maxLength: 3 }),
    commonExtended: fc.array(
      fc.record({
        sopClassUid: uid,
        serviceClassUid: uid,
        relatedGeneralSopClassUids: fc.array(uid, { maxLength: 3 }),
      }),
      { maxLength: 3 },
    ),
    userIdentity: fc.record({
      type: fc.integer({ min: 1, max: 5 }),
      positiveResponseRequested: fc.boolean(),
      primary: bytes(40),
      secondary: bytes(40),
    }),
    userIdentityResponse: bytes(40),
  },
  { requiredKeys: ['roles', 'extended', 'commonExtended'] },
);
const common = {
  protocolVersion: u16,
  calledAeTitle: title,
  callingAeTitle: title,
  applicationContext: uid,
  user,
};
const pdv = fc.record({ contextId: u8, command: fc.boolean(), last: fc.boolean(), data: bytes(300) });
const anyPdu: fc.Arbitrary<Pdu> = fc.oneof(
  fc.record({
    type: fc.constant(PDU.ASSOCIATE_RQ),
    ...common,
    contexts: fc.array(fc.record({ id: u8, abstractSyntax: uid, transferSyntaxes: fc.array(uid, { maxLength: 5 }) }), {
      maxLength: 128,
    }),
  }),
  fc.record({
    type: fc.constant(PDU.ASSOCIATE_AC),
    ...common,
    contexts: fc.array(fc.record({ id: u8, result: u8, transferSyntax: uid }), { maxLength: 128 }),
  }),
  fc.record({ type: fc.constant(PDU.ASSOCIATE_RJ), result: u8, source: u8, reason: u8 }),
  fc.record({ type: fc.constant(PDU.P_DATA_TF), pdvs: fc.array(pdv, { maxLength: 6 }) }),
  fc.record({ type: fc.constant(PDU.RELEASE_RQ) }),
  fc.record({ type: fc.constant(PDU.RELEASE_RP) }),
  fc.record({ type: fc.constant(PDU.ABORT), source: u8, reason: u8 }),
);

/** Everything a reader says, with the fragments of each PDV joined: what must not depend on how the bytes were cut. */
function readAll(stream: Buffer, cuts: number[]): unknown[] {
  const said: unknown[] = [];
  let partial: Buffer[] = [];
  const reader = new PduReader(
    {
      begin: (type, length) => said.push(['begin', type, length]),
      fragment: (contextId, command, data, last) => {
        partial.push(Buffer.from(data));
        if (last) {
          said.push(['pdv', contextId, command, Buffer.concat(partial).toString('hex')]);
          partial = [];
        }
      },
      endOfData: () => said.push(['endOfData', Buffer.concat(partial.splice(0)).toString('hex')]),
      pdu: (pdu) => said.push(pdu),
    },
    LIMITS,
  );
  let at = 0;
  for (const cut of cuts) {
    reader.push(Buffer.from(stream.subarray(at, at + cut)));
    at += cut;
  }
  reader.push(Buffer.from(stream.subarray(at)));
  assert.equal(reader.insidePdu, false);
  return said;
}

test('what is encoded is decoded the same', () => {
  fc.assert(
    fc.property(anyPdu, (pdu) => {
      const encoded = encodePdu(pdu);
      assert.equal(encoded.readUInt32BE(2), encoded.length - PDU_HEADER_LENGTH);
      const decoded = decodePdu(encoded[0]!, encoded.subarray(PDU_HEADER_LENGTH));
      if ('titles' in decoded) delete decoded.titles;
      // JSON leaves out what is undefined.
      assert.deepEqual(JSON.parse(JSON.stringify(decoded)), JSON.parse(JSON.stringify(pdu)));
    }),
    { numRuns: 300 },
  );
});

test('a reader says the same however the bytes are cut', () => {
  fc.assert(
    fc.property(fc.array(anyPdu, { maxLength: 4 }), fc.array(fc.nat(40), { maxLength: 60 }), (pdus, cuts) => {
      const stream = Buffer.concat(pdus.map(encodePdu));
      const whole = readAll(stream, []);
      assert.deepEqual(readAll(stream, cuts), whole);
      assert.deepEqual(readAll(stream, new Array(stream.length).fill(1)), whole);
    }),
    { numRuns: 100 },
  );
});

test('random and damaged bytes: PduError or nothing', () => {
  fc.assert(
    fc.property(bytes(400), (data) => fuzzPdus(data)),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(
      anyPdu,
      fc.array(fc.record({ at: fc.nat(), to: u8 }), { minLength: 1, maxLength: 6 }),
      (pdu, damage) => {
        const encoded = encodePdu(pdu);
        for (const { at, to } of damage) encoded[at % encoded.length] = to;
        fuzzPdus(encoded);
      },
    ),
    { numRuns: 1000 },
  );
});

test('a P-DATA-TF is handed on while it arrives, whatever its header claims', () => {
  const seen: Buffer[] = [];
  const reader = new PduReader(
    { begin: () => {}, fragment: (_, __, data) => seen.push(data), endOfData: () => {}, pdu: () => {} },
    { controlPduLengthMax: 1024, pduLengthReceived: 0xffffffff },
  );
  reader.push(Buffer.from('0400ffffffff' + 'fffffffb' + '0100', 'hex'));
  const chunk = Buffer.alloc(65536, 7);
  reader.push(chunk);
  assert.equal(seen[0], chunk, 'the very buffer: not copied');
});

test('a length over the limit is refused by its header alone, and named', () => {
  const reader = () =>
    new PduReader({ begin: () => {}, fragment: () => {}, endOfData: () => {}, pdu: () => {} }, LIMITS);
  assert.throws(
    () => reader().push(Buffer.from('0400ffffffff', 'hex')),
    (error: unknown) => error instanceof PduError && error.limit === 'pduLengthReceived' && error.abortReason === 6,
  );
  assert.throws(
    () => reader().push(Buffer.from('0100ffffffff', 'hex')),
    (error: unknown) => error instanceof PduError && error.limit === 'controlPduLengthMax' && error.abortReason === 6,
  );
  assert.throws(
    () => reader().push(Buffer.from('080000000004', 'hex')),
    (error: unknown) => error instanceof PduError && error.abortReason === 1,
  );
  for (const lying of [
    '04000000000c' + '00000020' + '0103',
    '040000000006' + '00000001' + '0103',
    '04000000000300000001',
    '040000000008' + '00000005' + '0103' + 'aabb',
  ]) {
    assert.throws(() => reader().push(Buffer.from(lying, 'hex')), PduError);
  }
});

test('titles padded with spaces or NULs are the same title, and come back as they were', () => {
  const rq = encodePdu({
    type: PDU.ASSOCIATE_RQ,
    protocolVersion: 1,
    calledAeTitle: 'GANTRY',
    callingAeTitle: 'CT',
    applicationContext: '1.2',
    contexts: [],
    user: { roles: [], extended: [], commonExtended: [] },
  });
  rq.write('GANTRY\0\0\0\0\0\0\0\0\0\0', 10, 'latin1');
  rq.write('  ct\0            ', 26, 16, 'latin1');
  const decoded = decodePdu(1, rq.subarray(6));
  assert.ok(decoded.type === PDU.ASSOCIATE_RQ);
  assert.equal(decoded.calledAeTitle, 'GANTRY');
  assert.equal(decoded.callingAeTitle, 'ct');
  const ac = encodePdu({ ...decoded, type: PDU.ASSOCIATE_AC, contexts: [] });
  assert.deepEqual(ac.subarray(10, 42), rq.subarray(10, 42));
});

test('items that nobody knows are skipped', () => {
  const rq = encodePdu({
    type: PDU.ASSOCIATE_RQ,
    protocolVersion: 1,
    calledAeTitle: 'A',
    callingAeTitle: 'B',
    applicationContext: '1.2',
    contexts: [{ id: 1, abstractSyntax: '1.3', transferSyntaxes: ['1.4'] }],
    user: { maxPduLength: 5, roles: [], extended: [], commonExtended: [] },
  });
  const strange = Buffer.concat([rq, Buffer.from('77000003aabbcc', 'hex')]);
  const decoded = decodePdu(1, strange.subarray(6));
  assert.ok(decoded.type === PDU.ASSOCIATE_RQ);
  assert.equal(decoded.contexts.length, 1);
  assert.equal(decoded.user.maxPduLength, 5);
});
