// DICOMweb by clients that others wrote: Python's dicomweb-client and the one that OHIF is built on.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { api } from 'dicomweb-client';
import { pythonWithPynetdicom, without } from '../setup/peers.ts';
import { sha, type TestFile, testFiles } from './files.ts';
import { type GantryServer, startServer } from './server.ts';

describe('DICOMweb clients', { timeout: 15 * 60_000 }, () => {
  let server: GantryServer;
  /** What shows of the files: the first of several versions of an instance (keep-first). */
  const stored = new Map<string, TestFile>();

  let hasBulkValues = false;

  before(async () => {
    server = await startServer();
    const { files, from } = await testFiles();
    hasBulkValues = from === 'open'; // of the samples nothing but pixels is large
    for (const file of files) {
      const answer = await fetch(`${server.origin}/api/v1/instances`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/dicom' },
        body: new Uint8Array(file.bytes),
      });
      const { status } = (await answer.json()) as { status: number };
      const uids = [file.studyInstanceUid, file.seriesInstanceUid, file.sopInstanceUid].join('\t');
      if (status === 0 && file.hasMeta && !stored.has(uids)) stored.set(uids, file);
      else if (status === 0 && !stored.has(uids)) {
        // What came without a Part 10 header has got one: nothing to compare byte for byte.
        await fetch(
          `${server.dicomWeb}/studies/${uids.split('\t')[0]}/series/${uids.split('\t')[1]}/instances/${uids.split('\t')[2]}`,
          { method: 'DELETE' },
        );
      }
    }
    assert.ok(stored.size > 0);
  });
  after(() => server?.close());

  test('dicomweb-client (Python)', { skip: without('pynetdicom') }, async () => {
    const child = spawn(pythonWithPynetdicom(), [join(import.meta.dirname, 'python/dicomweb.py'), server.dicomWeb], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stdin.end([...stored].map(([uids, file]) => `${file.row.path}\t${uids}`).join('\n'));
    const [differences, summary, code] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      new Promise((resolve) => child.once('exit', resolve)),
    ]);
    assert.equal(differences, '', 'differences');
    assert.equal(code, 0, summary);
    const bulkValues = hasBulkValues ? [' bulk values'] : [];
    for (const done of [`${stored.size} instances,`, ...bulkValues, ' frames,', ' name searches', '4 stored'])
      assert.ok(summary.includes(done), `${done}: ${summary}`);
  });

  test('dicomweb-client (JavaScript, as in OHIF)', async () => {
    const client = new api.DICOMwebClient({
      url: server.dicomWeb,
      singlepart: false,
      verbose: false,
    }) as unknown as Client;
    // It asks for the default transfer syntax; a page adds that anything else will do too.
    const headers = { Accept: 'multipart/related; type="application/dicom"; transfer-syntax=*; q=0.5' };
    const retrieving = new api.DICOMwebClient({
      url: server.dicomWeb,
      singlepart: false,
      verbose: false,
      headers,
    }) as unknown as Client;
    const studies = Map.groupBy(stored.values(), (file) => file.studyInstanceUid);
    const found = await client.searchForStudies({ queryParams: { limit: 10000, includefield: '00081030,00080060' } });
    assert.deepEqual(found.map((row) => firstOf(row, '0020000D')).sort(), [...studies.keys()].sort());
    let frames = 0;
    for (const [study, files] of studies) {
      const whole = (await retrieving.retrieveStudy({ studyInstanceUID: study })).map(digest);
      assert.equal(whole.length, files.length);
      for (const file of files) if (!reencoded(file)) assert.ok(whole.includes(sha(file.bytes)), study);
      const rows = await client.retrieveStudyMetadata({ studyInstanceUID: study });
      assert.equal(rows.length, files.length);
      for (const [series, ofSeries] of Map.groupBy(files, (file) => file.seriesInstanceUid)) {
        const names = { studyInstanceUID: study, seriesInstanceUID: series };
        assert.equal((await client.retrieveSeriesMetadata(names)).length, ofSeries.length);
        assert.equal((await retrieving.retrieveSeries(names)).length, ofSeries.length);
        assert.equal(
          (await client.searchForInstances({ ...names, queryParams: { limit: 10000 } })).length,
          ofSeries.length,
        );
        const instance = { ...names, sopInstanceUID: ofSeries[0]!.sopInstanceUid };
        const one = digest(await retrieving.retrieveInstance(instance));
        if (!reencoded(ofSeries[0]!)) assert.equal(one, sha(ofSeries[0]!.bytes));
        const [metadata = {}] = await client.retrieveInstanceMetadata(instance);
        for (const attribute of Object.values(metadata)) {
          if (attribute.BulkDataURI === undefined || /7FE0/.test(attribute.BulkDataURI)) continue;
          const [value] = await client.retrieveBulkData({ BulkDataURI: attribute.BulkDataURI });
          assert.ok(value!.byteLength > 0);
        }
        if (Object.hasOwn(metadata, '7FE00010')) {
          const got = await client
            .retrieveInstanceFrames({ ...instance, frameNumbers: [1], mediaTypes: FRAME_TYPES })
            .catch((error: { status: number }) => error.status);
          // 406: a video, or a file that says nothing of where its frames lie.
          if (typeof got === 'number') assert.equal(got, 406);
          else frames += got.length;
        }
      }
    }
    assert.ok(frames > 0);
    const [again] = stored.values();
    const answer = await client.storeInstances({ datasets: [new Uint8Array(again!.bytes).buffer] });
    assert.match(answer, /00081199/); // what is there already is stored again, and nothing changes
  });
});

// Names that the standard has given up are among them.
const FRAME_TYPES = [
  { mediaType: 'image/jpeg', transferSyntaxUID: '1.2.840.10008.1.2.4.50' },
  { mediaType: 'image/x-jls', transferSyntaxUID: '1.2.840.10008.1.2.4.80' },
  { mediaType: 'image/x-dicom-rle', transferSyntaxUID: '1.2.840.10008.1.2.5' },
  { mediaType: 'application/octet-stream', transferSyntaxUID: '*' },
];

/** Native, and not in the default transfer syntax: it comes in that one. */
const reencoded = (file: TestFile): boolean =>
  ['1.2.840.10008.1.2', '1.2.840.10008.1.2.2', '1.2.840.10008.1.2.1.99'].includes(file.transferSyntaxUid);

const digest = (bytes: ArrayBuffer): string => sha(Buffer.from(bytes));

function firstOf(row: Row, tag: string): unknown {
  return row[tag]?.Value?.[0];
}

type Row = Record<string, { Value?: unknown[]; BulkDataURI?: string }>;

/** Its own types ask for what its documentation calls optional. */
interface Client {
  searchForStudies(options: object): Promise<Row[]>;
  searchForInstances(options: object): Promise<Row[]>;
  retrieveStudy(options: object): Promise<ArrayBuffer[]>;
  retrieveSeries(options: object): Promise<ArrayBuffer[]>;
  retrieveInstance(options: object): Promise<ArrayBuffer>;
  retrieveStudyMetadata(options: object): Promise<Row[]>;
  retrieveSeriesMetadata(options: object): Promise<Row[]>;
  retrieveInstanceMetadata(options: object): Promise<Row[]>;
  retrieveBulkData(options: object): Promise<ArrayBuffer[]>;
  retrieveInstanceFrames(options: object): Promise<ArrayBuffer[]>;
  storeInstances(options: object): Promise<string>;
}

/** As much of a browser's XMLHttpRequest as dicomweb-client uses. */
class BrowserRequest {
  readyState = 0;
  status = 0;
  responseType = '';
  response: unknown;
  onreadystatechange: (() => void) | undefined;
  readonly #headers: [string, string][] = [];
  #answer: Response | undefined;
  #method = 'GET';
  #url = '';

  open(method: string, url: string): void {
    this.#method = method;
    this.#url = url;
  }
  setRequestHeader(name: string, value: string): void {
    this.#headers.push([name, value]);
  }
  getResponseHeader(name: string): string | null {
    return this.#answer!.headers.get(name);
  }
  getAllResponseHeaders(): string {
    return [...this.#answer!.headers].map(([name, value]) => `${name}: ${value}\r\n`).join('');
  }
  async send(body?: BodyInit): Promise<void> {
    this.#answer = await fetch(this.#url, { method: this.#method.toUpperCase(), headers: this.#headers, body });
    this.status = this.#answer.status;
    this.response =
      this.responseType === 'arraybuffer'
        ? await this.#answer.arrayBuffer()
        : this.responseType === 'json' && this.status === 200
          ? await this.#answer.json()
          : await this.#answer.text();
    this.readyState = 4;
    this.onreadystatechange?.();
  }
}
Object.assign(globalThis, { XMLHttpRequest: BrowserRequest });
