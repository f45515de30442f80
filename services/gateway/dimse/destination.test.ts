import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AcceptedContext } from '#dimse/types.ts';
import { Located } from '#proto/index/v1/index.ts';
import { batches, chooseContext, contextsFor, type Retrievable } from './destination.ts';

const EXPLICIT = '1.2.840.10008.1.2.1';
const IMPLICIT = '1.2.840.10008.1.2';
const BIG_ENDIAN = '1.2.840.10008.1.2.2';
const GE_PRIVATE = '1.2.840.113619.5.2';
const JPEG = '1.2.840.10008.1.2.4.70';
const J2K = '1.2.840.10008.1.2.4.90';
const CT = '1.2.840.10008.5.1.4.1.1.2';
const MR = '1.2.840.10008.5.1.4.1.1.4';

const kept = (sopClassUid: string, transferSyntaxUid: string) =>
  Located.fromPartial({ sopClassUid, transferSyntaxUid });
const one = (...of: [string, string][]): Retrievable => ({
  studyInstanceUid: '1',
  sopInstanceUid: '1.1',
  kept: of.map(([sopClass, syntax]) => kept(sopClass, syntax)),
});
const context = (id: number, abstractSyntax: string, transferSyntax: string): AcceptedContext => ({
  id,
  abstractSyntax,
  transferSyntax,
  requestorScu: true,
  requestorScp: false,
});

test('each stored syntax is proposed alone; an uncompressed one also as Explicit or Implicit', () => {
  assert.deepEqual(contextsFor([kept(CT, JPEG), kept(CT, JPEG), kept(CT, EXPLICIT), kept(MR, BIG_ENDIAN)], []), [
    { abstractSyntax: CT, transferSyntaxes: [JPEG] },
    { abstractSyntax: CT, transferSyntaxes: [EXPLICIT] },
    { abstractSyntax: CT, transferSyntaxes: [EXPLICIT, IMPLICIT] },
    { abstractSyntax: MR, transferSyntaxes: [BIG_ENDIAN] },
    { abstractSyntax: MR, transferSyntaxes: [EXPLICIT, IMPLICIT] },
  ]);
  // Its pixels are big endian: nobody can re-encode it without touching them.
  assert.deepEqual(contextsFor([kept(CT, GE_PRIVATE)], []), [{ abstractSyntax: CT, transferSyntaxes: [GE_PRIVATE] }]);
});

test("a peer's configured syntaxes are all that is proposed", () => {
  assert.deepEqual(contextsFor([kept(CT, JPEG), kept(CT, EXPLICIT)], [IMPLICIT]), [
    { abstractSyntax: CT, transferSyntaxes: [IMPLICIT] },
  ]);
  assert.deepEqual(contextsFor([kept(CT, JPEG)], [JPEG]), [{ abstractSyntax: CT, transferSyntaxes: [JPEG] }]);
  assert.deepEqual(contextsFor([kept(CT, JPEG)], [EXPLICIT]), []);
});

test('more than 128 contexts take several associations, in order, with every instance once', () => {
  const instances = Array.from({ length: 300 }, (_, n) => one([`1.2.826.0.1.${n % 150}`, EXPLICIT]));
  const all = [...batches(instances, [])];
  assert.deepEqual(
    all.map((batch) => batch.length),
    [64, 64, 64, 64, 44],
  );
  assert.deepEqual(all.flat(), instances);
  for (const batch of all)
    assert.ok(
      contextsFor(
        batch.flatMap((instance) => instance.kept),
        [],
      ).length <= 128,
    );
  assert.deepEqual(
    [...batches(instances.slice(0, 40), [])].map((batch) => batch.length),
    [40],
  );
  assert.deepEqual([...batches([], [])], []);
});

test('as stored where that was accepted, else Explicit, else Implicit; compressed pixels only as they are', () => {
  const both = [context(1, CT, IMPLICIT), context(3, CT, EXPLICIT), context(5, CT, JPEG)];
  const chosen = (contexts: AcceptedContext[], instance: Retrievable) => {
    const found = chooseContext(contexts, instance);
    return found && [found.context.id, found.as.transferSyntaxUid, found.as.asStored, found.located.transferSyntaxUid];
  };
  assert.deepEqual(chosen(both, one([CT, IMPLICIT])), [1, IMPLICIT, true, IMPLICIT]);
  assert.deepEqual(chosen(both, one([CT, BIG_ENDIAN])), [3, EXPLICIT, false, BIG_ENDIAN]);
  assert.deepEqual(chosen(both.slice(0, 1), one([CT, EXPLICIT])), [1, IMPLICIT, false, EXPLICIT]);
  assert.deepEqual(chosen(both, one([CT, JPEG])), [5, JPEG, true, JPEG]);
  assert.equal(chosen(both.slice(0, 2), one([CT, JPEG])), undefined);
  assert.equal(chosen(both, one([MR, EXPLICIT])), undefined);
  assert.equal(chosen(both, one([CT, GE_PRIVATE])), undefined);
  // What else it is kept as, in the order given.
  assert.deepEqual(chosen(both.slice(0, 2), one([CT, J2K], [CT, EXPLICIT])), [3, EXPLICIT, true, EXPLICIT]);
  assert.deepEqual(chosen(both, one([CT, BIG_ENDIAN], [CT, EXPLICIT])), [3, EXPLICIT, false, BIG_ENDIAN]);
});
