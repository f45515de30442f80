// Trash, restore and purge against the real archive.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { find } from '#dimse/scu.ts';
import { IndexService, Located } from '#proto/index/v1/index.ts';
import {
  EXPLICIT,
  house,
  IMPLICIT,
  instance,
  JPEG,
  keep,
  query,
  STUDY_ROOT,
  type TestHouse,
} from './dimse/house.testing.ts';
import { represent } from './representation.ts';
import { createUseCases, type UseCases } from './use-cases.ts';

describe('what both doors do to the archive', () => {
  let archive: TestHouse;
  let useCases: UseCases;
  const call = () => archive.context.call();
  before(async () => {
    archive = await house();
    useCases = createUseCases(archive.context);
    await keep(archive, instance(1), instance(2), instance(3, { series: '1.2.3.2', sop: '1.2.3.2.3' }));
  });

  /** What C-FIND shows, at IMAGE level of one series. */
  const shown = async (series = '1.2.3.1') => {
    const association = await archive.connect({ callingAeTitle: 'READER' });
    let rows = -1;
    for await (const _ of find(association, STUDY_ROOT.find, query('IMAGE', { study: '1.2.3', series, sop: '' })))
      rows++;
    await association.release();
    return rows;
  };

  test('an instance, a series, a study to the trash and back: shown at once, either way', async () => {
    assert.equal(
      await useCases.moveToTrash(call(), { study: '1.2.3', series: '1.2.3.1', instance: '1.2.3.1.1' }, 'why'),
      1,
    );
    assert.equal(await shown(), 1);
    assert.equal(await useCases.moveToTrash(call(), { study: '1.2.3', series: '1.2.3.2' }, 'why'), 1);
    assert.equal(await shown('1.2.3.2'), 0);
    assert.equal(await useCases.moveToTrash(call(), { study: '1.2.3' }, 'the rest'), 1);
    assert.equal(await shown(), 0);
    const [row] = await useCases.trash(call(), '1.2.3');
    assert.equal(Number(row!.instances), 3);
    assert.equal(await useCases.restore(call(), { study: '1.2.3' }), 3);
    assert.equal(await shown(), 2);
    assert.deepEqual(await useCases.trash(call()), []);
  });

  test('a deletion names what shows now: what arrives later is shown', async () => {
    await useCases.moveToTrash(call(), { study: '1.2.3', series: '1.2.3.1' }, 'why');
    await keep(archive, instance(9));
    assert.equal(await useCases.restore(call(), { study: '1.2.3' }), 2);
    assert.equal(await shown(), 3);
  });

  test('while the index is behind the log nothing is deleted: an entry that it does not know would survive in silence', async () => {
    const behind = createUseCases({
      ...archive.context,
      client: (service) => {
        const client = archive.context.client(service);
        return (service as unknown) === IndexService ? { ...client, await: async () => ({ reached: false }) } : client;
      },
    } as typeof archive.context);
    await assert.rejects(behind.moveToTrash(call(), { study: '1.2.3' }, 'why'), { code: 'unavailable' });
    assert.equal(await shown(), 3);
  });

  test('what is not there cannot be deleted, restored or purged', async () => {
    for (const attempt of [
      () => useCases.moveToTrash(call(), { study: '9.9' }, 'why'),
      () => useCases.moveToTrash(call(), { study: '1.2.3', series: '9' }, 'why'),
      () => useCases.restore(call(), { study: '1.2.3' }),
      () => useCases.purge(call(), '1.2.3'),
      () => useCases.moveToTrash({ ...call(), tenant: 'other' }, { study: '1.2.3' }, 'why'),
    ])
      await assert.rejects(attempt(), { code: 'not-found' });
    assert.equal(await shown(), 3);
  });

  test('on hold: it goes to the trash and back, is not purged, and can be once the hold is lifted', async () => {
    await keep(archive, instance(7, { study: '1.7', series: '1.7.1', sop: '1.7.1.1' }));
    await useCases.hold(call(), '1.7', true, 'inquiry');
    await useCases.moveToTrash(call(), { study: '1.7' }, 'why');
    assert.equal((await useCases.trash(call(), '1.7'))[0]?.onHold, true);
    await assert.rejects(useCases.purge(call(), '1.7'), { code: 'failed-precondition', message: /on hold/ });
    assert.equal(await useCases.restore(call(), { study: '1.7' }), 1);
    await useCases.moveToTrash(call(), { study: '1.7' }, 'again');
    await useCases.hold(call(), '1.7', false, '');
    assert.equal((await useCases.trash(call(), '1.7'))[0]?.onHold, false);
    assert.equal(await useCases.purge(call(), '1.7'), 1);
    // Purged, its bytes are there until the keeper comes by: a court may still ask, and must be able to let go.
    await useCases.hold(call(), '1.7', true, 'inquiry');
    await useCases.hold(call(), '1.7', false, '');
    await assert.rejects(useCases.hold(call(), '9.9', true, ''), { code: 'not-found' });
  });

  test('purged is gone for good', async () => {
    await useCases.moveToTrash(call(), { study: '1.2.3' }, 'why');
    await useCases.purge(call(), '1.2.3');
    assert.deepEqual(await useCases.trash(call()), []);
    await assert.rejects(useCases.restore(call(), { study: '1.2.3' }), { code: 'not-found' });
    assert.equal(await shown(), 0);
  });
});

test('how an instance can be given: as stored, or an uncompressed one as Explicit or Implicit', () => {
  const BIG_ENDIAN = '1.2.840.10008.1.2.2';
  const given = (stored: string, asked: string) => {
    const as = represent(Located.fromPartial({ transferSyntaxUid: stored }), asked);
    return as && [as.transferSyntaxUid, as.asStored];
  };
  assert.deepEqual(given(JPEG, '*'), [JPEG, true]);
  assert.deepEqual(given(JPEG, JPEG), [JPEG, true]);
  assert.equal(given(JPEG, EXPLICIT), undefined);
  assert.deepEqual(given(IMPLICIT, EXPLICIT), [EXPLICIT, false]);
  assert.deepEqual(given(BIG_ENDIAN, IMPLICIT), [IMPLICIT, false]);
  assert.equal(given(EXPLICIT, BIG_ENDIAN), undefined);
  assert.equal(given(EXPLICIT, JPEG), undefined);
  // A syntax whose pixels are big endian in a little endian data set: only as it is.
  assert.equal(given('1.2.840.113619.5.2', EXPLICIT), undefined);
});
