// Logs, metrics, exemplars and traces hold no patient data: a full run at level debug over both doors, refusals and bad requests among it, then every
// name, patient ID, accession number, birth date and query string of it is looked for in what was logged, counted and traced.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { DataSet } from '#dicom/dataset.ts';
import { DicomError } from '#dicom/errors.ts';
import type { JsonDataSet } from '#dicom/json.ts';
import { skim } from '#dicom/skim.ts';
import { Tag } from '#dicom/tags.ts';
import { encodeDataSet } from '#dicom/write.ts';
import { CONTEXTS_MAX, connect } from '#dimse/requestor.ts';
import { find, get, move, store } from '#dimse/scu.ts';
import { type Collector, startCollector } from '#platform/collector.testing.ts';
import { type TestFile, testFiles } from './files.ts';
import { freePort, type GantryServer, startServer } from './server.ts';

const EXPLICIT = '1.2.840.10008.1.2.1';
const PATIENT_ROOT = {
  find: '1.2.840.10008.5.1.4.1.2.1.1',
  move: '1.2.840.10008.5.1.4.1.2.1.2',
  get: '1.2.840.10008.5.1.4.1.2.1.3',
};
const FALLBACK_CLASS = '1.2.840.10008.5.1.4.1.1.7';

/** What may not be logged of a file. Parts of names count too: "Doe" of "Doe^Jane" is as telling. */
interface Secret {
  value: string;
  what: string;
}
const SECRET_TAGS: readonly (readonly [number, string])[] = [
  [Tag.PatientName, 'PatientName'],
  [Tag.PatientID, 'PatientID'],
  [Tag.AccessionNumber, 'AccessionNumber'],
  [Tag.PatientBirthDate, 'PatientBirthDate'],
];
const PART_MIN = 4; // of a name
const VALUE_MIN = 5; // shorter numbers stand in every log: ports, counts, milliseconds

/**
 * Parts of the samples' names that are ordinary words of a log ("Last^First", "Test^Pattern"): closed, and for parts only. The whole
 * names and every ID are looked for all the same. `anonymous` is what the principal of an open door is called.
 */
const WORDS = new Set(['anonymous', 'fall', 'first', 'last', 'modality', 'name', 'none', 'patient', 'pattern', 'test']);

function secretsOf(file: TestFile): Secret[] {
  let header: DataSet;
  try {
    header = new DataSet(skim(file.dataSet, file.transferSyntaxUid));
  } catch (error) {
    if (error instanceof DicomError) return []; // no values can be told; its name is in other files of its set
    throw error;
  }
  return SECRET_TAGS.flatMap(([tag, what]): Secret[] => {
    const values = header.get(tag)?.strings() ?? [];
    return values.flatMap((value) => [
      { value: value.trim(), what },
      ...(what === 'PatientName'
        ? value.split(/[\^=, ]+/).map((part) => ({ value: part, what: `part of ${what}` }))
        : []),
    ]);
  });
}

const isLookedFor = ({ value, what }: Secret): boolean =>
  value.length >= (what.endsWith('PatientName') ? PART_MIN : VALUE_MIN) &&
  !(WORDS.has(value.toLowerCase()) && (what.startsWith('part') || value.toLowerCase() === 'anonymous')) &&
  /[\p{L}\p{N}]/u.test(value);

/** A number of JSON or of a metric, unquoted: a count of bytes may be somebody's ID by chance, but no ID is ever a number. */
const isNumber = (text: string, at: number, value: string): boolean =>
  /^\d+$/.test(value) &&
  (text[at - 1] === ':' || (text[at - 1] === ' ' && '\n'.includes(text[at + value.length] ?? '\n')));

/** The secrets that a text holds: as whole words, so that a number within a UID is none. */
function leaks(text: string, secrets: readonly Secret[]): string[] {
  return secrets
    .filter(({ value }) => {
      for (const form of new Set([value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value)])) {
        for (let at = text.indexOf(form); at >= 0; at = text.indexOf(form, at + 1)) {
          if (isNumber(text, at, form)) continue;
          const [before, behind] = [text[at - 1] ?? ' ', text[at + form.length] ?? ' '];
          if (
            !/[\p{L}\p{N}.]/u.test(before) &&
            !/[\p{L}\p{N}]/u.test(behind) &&
            !/^\.\d/.test(text.slice(at + form.length))
          )
            return true;
        }
      }
      return false;
    })
    .map(({ value, what }) => {
      const line = text.split('\n').find((one) => one.includes(value)) ?? '';
      return `${what}: ${line.slice(0, 200)}`;
    });
}

describe('logs, metrics and traces of a full run', { timeout: 20 * 60_000 }, () => {
  let server: GantryServer;
  let collector: Collector;
  let files: TestFile[];
  let from: 'open' | 'samples';
  let secrets: Secret[];
  const queries = new Set<string>();

  before(async () => {
    ({ files, from } = await testFiles());
    const uids = new Set(files.flatMap((file) => [file.studyInstanceUid, file.seriesInstanceUid, file.sopInstanceUid]));
    const all = new Map(
      files
        .flatMap(secretsOf)
        .filter(isLookedFor)
        .map((secret) => [`${secret.what} ${secret.value}`, secret]),
    );
    // A file that gives its study's UID as the patient's ID: UIDs may be logged.
    secrets = [...all.values()].filter(({ value }) => !uids.has(value));
    collector = await startCollector();
    server = await startServer({
      env: {
        GANTRY_PLATFORM_LOG_LEVEL: 'debug',
        GANTRY_DIMSE_ACCEPT_UNKNOWN: 'true',
        GANTRY_PLATFORM_OTLP_ENDPOINT: collector.endpoint,
        GANTRY_PLATFORM_TRACE_SAMPLE: '1',
      },
      yaml: `peers:\n  - {aeTitle: NOBODY, host: 127.0.0.1, port: ${await freePort()}}\n`,
    });
  });
  after(async () => {
    await server?.close();
    await collector?.close();
  });

  /** Whatever the answer is: the run is about what is written down meanwhile. */
  async function ask(path: string, init: RequestInit = {}): Promise<number> {
    const at = path.indexOf('?');
    if (at >= 0) queries.add(path.slice(at + 1));
    const response = await fetch(`${server.origin}${path}`, init);
    await response.arrayBuffer();
    return response.status;
  }
  const sendAs = (bytes: Buffer, type: string): RequestInit => ({
    method: 'POST',
    headers: { 'content-type': type },
    body: new Uint8Array(bytes),
  });
  const values = (what: string): string[] => secrets.filter((secret) => secret.what === what).map(({ value }) => value);
  const answered = new Map<number, number>();
  const count = (status: number) => answered.set(status, (answered.get(status) ?? 0) + 1);

  test('there are secrets to keep, and the search finds them where they are', () => {
    assert.ok(secrets.length >= 10, `${secrets.length} values`);
    for (const { value, what } of secrets) {
      assert.equal(
        leaks(`{"msg":"request","route":${JSON.stringify(`x ${value}`)}}`, [{ value, what }]).length,
        1,
        what,
      );
    }
    assert.equal(leaks('a ?PatientName=D%C3%B6e b', [{ value: 'Döe', what: 'x' }]).length, 1);
    assert.deepEqual(leaks('{"bytes":12345,"x":1}\ngantry_bytes_total 12345\n', [{ value: '12345', what: 'x' }]), []);
    assert.deepEqual(leaks('uid 1.2.12345.6, port 123456', [{ value: '12345', what: 'x' }]), []);
  });

  test('every file by C-STORE, by STOW-RS and by import, refused ones too', async () => {
    const kinds = [...Map.groupBy(files, (file) => `${file.sopClassUid} ${file.transferSyntaxUid}`).values()];
    for (let at = 0; at < kinds.length; at += CONTEXTS_MAX) {
      const part = kinds.slice(at, at + CONTEXTS_MAX);
      const association = await connect({
        host: '127.0.0.1',
        port: server.dimsePort,
        callingAeTitle: 'LOGGED',
        calledAeTitle: 'GANTRY',
        contexts: part.map(([one]) => ({
          abstractSyntax: one!.sopClassUid || FALLBACK_CLASS,
          transferSyntaxes: [one!.transferSyntaxUid],
        })),
      });
      for (const file of part.flat()) {
        const sopClassUid = file.sopClassUid || FALLBACK_CLASS;
        const context = association.findContext(sopClassUid, file.transferSyntaxUid);
        if (context === undefined) continue;
        const request = {
          contextId: context.id,
          sopClassUid,
          sopInstanceUid: file.sopInstanceUid || '1.2.3',
          data: file.dataSet,
        };
        count((await store(association, request)).status);
      }
      await association.release();
    }
    for (const file of files) {
      const body = Buffer.concat([
        Buffer.from('--b\r\nContent-Type: application/dicom\r\n\r\n'),
        file.bytes,
        Buffer.from('\r\n--b--\r\n'),
      ]);
      count(await ask('/dicom-web/studies', sendAs(body, 'multipart/related; type="application/dicom"; boundary=b')));
      count(await ask('/api/v1/instances', sendAs(file.bytes, 'application/dicom')));
    }
    assert.ok(answered.get(0)! > 0 && answered.get(200)! > 0, JSON.stringify([...answered]));
    // The samples of the repo are all good; the open files bring refusals.
    if (from === 'open') assert.ok(answered.get(409)! > 0 && answered.get(0xa900)! > 0, JSON.stringify([...answered]));
  });

  test('bodies that break off, lie, or are something else', async () => {
    const file = files.find((one) => secretsOf(one).length > 3)!;
    const half = file.bytes.subarray(0, file.bytes.length >> 1);
    const multipart = 'multipart/related; type="application/dicom"; boundary=b';
    const part = Buffer.from('--b\r\nContent-Type: application/dicom\r\n\r\n');
    assert.ok((await ask('/dicom-web/studies', sendAs(Buffer.concat([part, half]), multipart))) >= 400);
    assert.ok((await ask('/dicom-web/studies', sendAs(file.bytes, multipart))) >= 400);
    assert.ok((await ask('/dicom-web/studies', sendAs(file.bytes, 'application/json'))) >= 400);
    await ask('/api/v1/instances', sendAs(half, 'application/dicom'));
    await ask(
      `/dicom-web/studies/1.2.3`,
      sendAs(Buffer.concat([part, file.bytes, Buffer.from('\r\n--b--\r\n')]), multipart),
    );
    for (const name of values('PatientName').slice(0, 20)) {
      await ask('/api/v1/verify', sendAs(Buffer.from(JSON.stringify({ [name]: name })), 'application/json'));
      await ask('/api/v1/verify', sendAs(Buffer.from(`{"name": ${name}`), 'application/json'));
      const native = JSON.stringify([
        { '00100010': { vr: 'PN', Value: [{ Alphabetic: name }] }, '00080016': { vr: 'UI', Value: [name] } },
      ]);
      const json = Buffer.from(`--b\r\nContent-Type: application/dicom+json\r\n\r\n${native}\r\n--b--\r\n`);
      await ask('/dicom-web/studies', sendAs(json, 'multipart/related; type="application/dicom+json"; boundary=b'));
    }
  });

  test('searches by every value, good and bad, and values where none belong', async () => {
    const statuses = new Set<number>();
    for (const [tag, what] of SECRET_TAGS) {
      for (const value of values(what)) {
        const text = encodeURIComponent(value);
        const keyword = what ?? String(tag);
        for (const path of [
          `/dicom-web/studies?${keyword}=${text}`,
          `/dicom-web/instances?${keyword}=${text}&limit=abc`,
          `/dicom-web/series?${text}=${text}&includefield=${text}`,
        ])
          statuses.add(await ask(path));
      }
    }
    for (const value of [...values('PatientID').slice(0, 10), ...values('PatientName').slice(0, 10)]) {
      const text = encodeURIComponent(value);
      for (const path of [
        `/dicom-web/studies?PatientName=${text}*&fuzzymatching=true&orderby=${text}`,
        `/dicom-web/studies?cursor=${text}`,
        `/dicom-web/studies?StudyDate=${text}`,
        `/dicom-web/studies/${text}`,
        `/dicom-web/studies/${text}/series/${text}/metadata`,
        `/dicom-web/patients/${text}`,
        `/wado?requestType=WADO&studyUID=${text}&seriesUID=1&objectUID=1`,
        `/api/v1/trash/${text}`,
        `/viewer/viewer?StudyInstanceUIDs=${text}`,
        `/${text}`,
      ])
        statuses.add(await ask(path));
      statuses.add(await ask(`/dicom-web/studies/${text}?reason=${text}`, { method: 'DELETE' }));
      statuses.add(await ask(`/api/v1/queue/${text}/${text}/retry`, { method: 'POST' }));
      statuses.add(await ask(`/api/v1/peers/NONE/echo?${text}`, { method: 'POST' }));
      statuses.add(
        await ask('/dicom-web/studies', {
          headers: { accept: 'image/x-nothing', 'x-patient': text, referer: `http://x/?${text}` },
        }),
      );
    }
    for (const status of [200, 400, 404, 406]) assert.ok(statuses.has(status), `${status} of ${[...statuses]}`);
    assert.ok(![...statuses].some((status) => status >= 500 && status !== 501), [...statuses].join());
  });

  test('C-FIND, C-MOVE and C-GET by patient', async () => {
    const association = await connect({
      host: '127.0.0.1',
      port: server.dimsePort,
      callingAeTitle: 'LOGGED',
      calledAeTitle: 'GANTRY',
      contexts: Object.values(PATIENT_ROOT).map((abstractSyntax) => ({ abstractSyntax, transferSyntaxes: [EXPLICIT] })),
    });
    const identifier = (level: string, keys: JsonDataSet) =>
      encodeDataSet(
        { '00080005': { vr: 'CS', Value: ['ISO_IR 192'] }, '00080052': { vr: 'CS', Value: [level] }, ...keys },
        { transferSyntaxUid: EXPLICIT },
      );
    let rows = 0;
    for (const value of values('PatientName')) {
      const name = {
        '00100010': { vr: 'PN', Value: [{ Alphabetic: value.split('=')[0] }] },
        '00100020': { vr: 'LO' },
      } as JsonDataSet;
      for await (const { status } of find(association, PATIENT_ROOT.find, identifier('PATIENT', name)))
        if (status === 0xff00) rows++;
    }
    for (const value of values('PatientID').slice(0, 20)) {
      const keys = { '00100020': { vr: 'LO', Value: [value] } } as JsonDataSet;
      for await (const { status } of find(association, PATIENT_ROOT.find, identifier('PATIENT', keys)))
        if (status === 0xff00) rows++;
      for await (const _ of find(association, PATIENT_ROOT.find, identifier(value.slice(0, 16), keys))); // no such level
      for await (const _ of move(association, PATIENT_ROOT.move, 'NOBODY', identifier('PATIENT', keys))); // it does not answer
      for await (const _ of move(association, PATIENT_ROOT.move, value.slice(0, 16), identifier('PATIENT', keys)));
      for await (const _ of get(association, PATIENT_ROOT.get, identifier('PATIENT', keys), async () => 0));
    }
    await association.release();
    assert.ok(rows > 0);
  });

  test('retrieve, delete, restore, upkeep', async () => {
    const studies = [...new Set(files.map((file) => file.studyInstanceUid).filter((uid) => uid !== ''))];
    const name = encodeURIComponent(values('PatientName')[0]!);
    let found = 0;
    for (const study of studies.slice(0, 60)) {
      const path = `/dicom-web/studies/${encodeURIComponent(study)}`;
      if ((await ask(path, { headers: { accept: '*/*' } })) < 300) found++;
      await ask(`${path}/metadata`);
      await ask(`${path}/rendered`);
      await ask(`${path}?reason=${name}`, { method: 'DELETE' });
      await ask(`/api/v1/trash/${encodeURIComponent(study)}/restore`, { method: 'POST' });
    }
    assert.ok(found > 0);
    for (const path of ['trash', 'conflicts', 'status', 'peers', 'associations', 'commitments', 'queue', 'conformance'])
      await ask(`/api/v1/${path}`);
    for (const path of ['verify', 'rebuild', 'compact', 'reclaim'])
      assert.equal(await ask(`/api/v1/${path}`, { method: 'POST' }), 200, path);
  });

  test('none of it is in the logs, the metrics or the traces', async () => {
    const accept = 'application/openmetrics-text';
    const metrics = await (await fetch(`${server.origin}/metrics`, { headers: { accept } })).text();
    await server.signal('SIGTERM');
    const log = server.log();
    const lines = log.split('\n').filter((line) => line !== '');
    // It was a full run, and it was logged: a silent log would hold no secret either.
    assert.ok(lines.length > files.length, `${lines.length} lines`);
    for (const sign of ['"msg":"request"', 'association opened', 'association closed', '"level":"debug"'])
      assert.ok(log.includes(sign), sign);
    assert.match(metrics, /gantry_http_requests_total\{/);
    assert.match(metrics, / # \{trace_id="[0-9a-f]{32}"\}/);
    const traces = collector.bodies.join('\n');
    const names = new Set(collector.spans().map((span) => span.name));
    for (const name of ['dimse.c-store', 'dimse.c-find', 'dimse.c-move', 'ingest.stow', 'index.fold', 'storage.commit'])
      assert.ok(names.has(name), `${name} of ${[...names].join(', ')}`);
    assert.deepEqual(leaks(log, secrets).slice(0, 10), []);
    assert.deepEqual(leaks(metrics, secrets).slice(0, 10), []);
    assert.deepEqual(leaks(traces, secrets).slice(0, 10), []);
    const asked = [...queries]
      .flatMap((query) => [query, decodeURIComponent(query)])
      .filter((query) => query.length >= VALUE_MIN);
    assert.ok(asked.length > 50);
    assert.deepEqual(
      asked.filter((query) => [log, metrics, traces].some((text) => text.includes(query))).slice(0, 10),
      [],
    );
  });
});
