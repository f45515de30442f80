// Retrieving: whatever way an instance goes out, it is the bytes that came in.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { JsonDataSet } from '#dicom/json.ts';
import { mintUid } from '#dicom/uids.ts';
import type { Response } from '#dimse/scu.ts';
import { partsOf } from '../dicomweb.testing.ts';
import { sha } from '../files.ts';
import { TITLES } from './deployment.ts';
import { uids } from './dimse.ts';
import { LARGE_BYTES, MR, type Sent } from './material.ts';
import { assertFiles, assertTaken, eventuallyCounted, first, type Scene, sopsOf, values } from './scene.ts';
import { AS_STORED, instancePath, pathOf } from './web.ts';

const OCTETS = 'multipart/related; type="application/octet-stream"';
const counters = ({ command }: Response) => ({
  remaining: command.remainingSubOperations,
  completed: command.completedSubOperations,
  failed: command.failedSubOperations,
  warning: command.warningSubOperations,
});

export function retrieving(the: () => Scene): void {
  describe('retrieving', () => {
    let all: Sent[];
    let series: Sent[];
    let real: Sent[];
    const study = () => all[0]!.study;

    before(async () => {
      const ct = the().makeSeries(8);
      const mr = the().makeSeries(3, { like: ct[0]!, sopClass: MR, frames: 3 });
      const large = the().make({ like: ct[0]!, pixelBytes: LARGE_BYTES });
      [all, series] = [[...ct, large, ...mr], mr];
      real = await the().realFiles();
      await the().dimse.store([...all, ...real]);
      await eventuallyCounted(the().web, study(), 12);
      for (const one of real) await eventuallyCounted(the().web, one.study, 1);
    });
    const levels = () =>
      [
        ['STUDY', all],
        ['SERIES', series],
        ['IMAGE', [series[0]!]],
      ] as const;

    test('C-MOVE to a peer: each instance once, true counters, the originator named', async () => {
      const { dimse, receiver } = the();
      for (const [level, wanted] of levels()) {
        receiver.taken.length = 0;
        const responses = await dimse.move(uids(level, series[0]!));
        const final = responses.at(-1)!;
        assert.equal(final.status, 0, level);
        assert.deepEqual(counters(final), { remaining: undefined, completed: wanted.length, failed: 0, warning: 0 });
        for (const pending of responses.slice(0, -1)) {
          const { remaining, completed, failed, warning } = counters(pending);
          assert.equal(pending.status, 0xff00);
          assert.equal(remaining! + completed! + failed! + warning!, wanted.length);
        }
        assertTaken(receiver.taken, wanted);
        for (const { command } of receiver.taken) assert.equal(command.moveOriginatorAeTitle, TITLES.sender);
      }
    });

    test('C-MOVE and C-GET of real files, each in the transfer syntax it has', async () => {
      const { dimse, receiver } = the();
      for (const one of real) {
        receiver.taken.length = 0;
        assert.equal((await dimse.move(uids('STUDY', one))).at(-1)!.status, 0, one.transferSyntax);
        const { responses, taken } = await dimse.get(uids('STUDY', one), [one]);
        assert.equal(responses.at(-1)!.status, 0, one.transferSyntax);
        for (const got of [receiver.taken, taken]) {
          assertTaken(got, [one]);
          assert.equal(got[0]!.transferSyntax, one.transferSyntax);
        }
      }
    });

    test('C-MOVE of what is not there moves nothing; to somebody unknown it is refused with A801', async () => {
      const { dimse, receiver } = the();
      receiver.taken.length = 0;
      const [nothing] = await dimse.move(uids('STUDY', { study: mintUid(), series: '', sop: '' }));
      assert.equal(nothing!.status, 0);
      assert.equal(nothing!.command.completedSubOperations, 0);
      const [refused] = await dimse.move(uids('STUDY', series[0]!), 'SCENARIO_NOBODY');
      assert.equal(refused!.status, 0xa801);
      assert.deepEqual(receiver.taken, []);
    });

    test('C-GET at each level', async () => {
      for (const [level, wanted] of levels()) {
        const { responses, taken } = await the().dimse.get(uids(level, series[0]!), all);
        const final = responses.at(-1)!;
        assert.equal(final.status, 0, level);
        assert.deepEqual(counters(final), { remaining: undefined, completed: wanted.length, failed: 0, warning: 0 });
        assertTaken(taken, wanted);
      }
    });

    test('WADO-RS of a study, a series, an instance', async () => {
      const { web } = the();
      const one = series[0]!;
      assertFiles(await web.wado(pathOf({ study: study() })), all);
      assertFiles(await web.wado(pathOf({ study: study(), series: one.series })), series);
      assertFiles(await web.wado(instancePath(one)), [one]);
      for (const file of real) {
        const { status, body } = await web.get(instancePath(file), AS_STORED);
        assert.equal(status, 200);
        assertFiles([body], [file]);
      }
      assert.equal((await web.get(pathOf({ ...one, sop: `${one.sop}.1` }), AS_STORED)).status, 404);
      assert.equal((await web.get(pathOf({ ...one, series: all[0]!.series }), AS_STORED)).status, 404);
    });

    test('WADO-RS of metadata, at each level', async () => {
      const { web } = the();
      const one = series[0]!;
      assert.deepEqual(values(await web.metadata(pathOf({ study: study() })), '00080018'), sopsOf(all));
      assert.deepEqual(
        values(await web.metadata(pathOf({ study: study(), series: one.series })), '00080018'),
        sopsOf(series),
      );
      const rows = await web.metadata(instancePath(one));
      assert.equal(rows.length, 1);
      assert.deepEqual(
        ['00080018', '00080060', '00280008', '00280010'].map((tag) => first(rows[0], tag)),
        [one.sop, 'MR', 3, 16],
      );
      assert.equal((await web.get(`${pathOf({ study: mintUid() })}/metadata`, 'application/dicom+json')).status, 404);
    });

    test('WADO-RS of frames, one by one and several at once, and of bulk data', async () => {
      const { web } = the();
      for (const one of series) {
        const pixels = one.dataSet.subarray(-3 * 512);
        const frame = (n: number) => sha(pixels.subarray((n - 1) * 512, n * 512));
        for (const wanted of [[1], [3], [2, 3], [3, 1]]) {
          const { status, headers, body } = await web.get(`${instancePath(one)}/frames/${wanted}`, OCTETS);
          assert.equal(status, 200);
          const parts = partsOf(String(headers['content-type']), body);
          assert.deepEqual(
            parts.map(({ bytes }) => sha(bytes)),
            wanted.map(frame),
          );
        }
        assert.equal((await web.get(`${instancePath(one)}/frames/4`, OCTETS)).status, 404);
        const [row] = (await web.metadata(instancePath(one))) as [
          JsonDataSet & Record<string, { BulkDataURI?: string }>,
        ];
        const bulk = await web.ask(row['7FE00010']!.BulkDataURI!, { headers: { Accept: 'application/octet-stream' } });
        assert.equal(bulk.status, 200);
        assert.equal(sha(bulk.body), sha(pixels));
      }
    });

    test('a range of a file', async () => {
      const { web } = the();
      const { body: whole } = await web.get(instancePath(all[8]!), AS_STORED);
      const { status, body } = await web.get(instancePath(all[8]!), AS_STORED, {
        headers: { Range: 'bytes=1000000-1999999' },
      });
      assert.equal(status, 206);
      assert.ok(body.equals(whole.subarray(1_000_000, 2_000_000)));
    });
  });
}
