// The table of matching cases (PS3.4 C.2.2.2) through both doors: what C-FIND finds, QIDO-RS finds, and it is what the table says.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { DataSet } from '#dicom/dataset.ts';
import { parseAttributePath, Tag, tagOf, type VR, vrOf } from '#dicom/tags.ts';
import { encodeDataSet, type WriteElement } from '#dicom/write.ts';
import { connect } from '#dimse/requestor.ts';
import { find, store } from '#dimse/scu.ts';
import type { Association } from '#dimse/types.ts';
import { dataSetOfCase } from '../../services/index/search/matching-archive.testing.ts';
import {
  INSTANCES,
  keysOfCase,
  MATCHING_CASES,
  type MatchingCase,
  uidOf,
} from '../../services/index/search/matching-cases.ts';
import { type GantryServer, startServer } from './server.ts';

const EXPLICIT = '1.2.840.10008.1.2.1';
const PATIENT_ROOT_FIND = '1.2.840.10008.5.1.4.1.2.1.1';
const UNIQUE = {
  PATIENT: 'PatientID',
  STUDY: 'StudyInstanceUID',
  SERIES: 'SeriesInstanceUID',
  IMAGE: 'SOPInstanceUID',
} as const;
const RESOURCE = { STUDY: 'studies', SERIES: 'series', IMAGE: 'instances' } as const;

const labels = new Map(
  INSTANCES.flatMap((one) => [one.study, one.series, one.instance].map((label) => [uidOf(label), label] as const)),
);
/** What the table expects, as values of the level's unique key. */
const expected = (one: MatchingCase): string[] =>
  (one.expect as string[])
    .map((label) =>
      one.level === 'PATIENT'
        ? String(INSTANCES.find((two) => two.study === label)!.attributes.PatientID!.Value?.[0] ?? '')
        : label,
    )
    .sort();

/** Date and time are one interval in QIDO-RS, without being asked. */
const otherInQido = (one: MatchingCase): boolean =>
  'StudyDate' in one.keys && 'StudyTime' in one.keys && one.options?.combinedDateTime !== true;

let server: GantryServer;
const associations = new Map<string, Association>();

/** Extended negotiation (PS3.4 C.5.1.1) is an association's, so each set of options has its own. */
async function associationFor(options: MatchingCase['options'] = {}): Promise<Association> {
  const info = [
    1, // relational
    options.combinedDateTime ? 1 : 0,
    options.fuzzy ? 1 : 0,
    options.timezoneOffset ? 1 : 0,
    0,
    options.emptyValueMatching ? 1 : 0,
    options.multipleValueMatching ? 1 : 0,
  ];
  const key = info.join('');
  let association = associations.get(key);
  if (!association) {
    association = await connect({
      host: '127.0.0.1',
      port: server.dimsePort,
      callingAeTitle: 'MATCHING',
      calledAeTitle: 'GANTRY',
      contexts: [{ abstractSyntax: PATIENT_ROOT_FIND, transferSyntaxes: [EXPLICIT] }],
      extended: [{ sopClassUid: PATIENT_ROOT_FIND, info: Buffer.from(info) }],
    });
    const granted = association.ac.user.extended.find((one) => one.sopClassUid === PATIENT_ROOT_FIND);
    assert.deepEqual([...granted!.info], info, 'what was asked for is granted');
    associations.set(key, association);
  }
  return association;
}

/** The identifier of a case: its keys, nested where they are, and the unique key to be returned. */
function identifierOf(one: MatchingCase): Buffer {
  const root: WriteElement[] = [{ tag: Tag.QueryRetrieveLevel, vr: 'CS', values: [one.level] }];
  if (one.options?.timezoneOffset)
    root.push({ tag: Tag.TimezoneOffsetFromUTC, vr: 'SH', values: [one.options.timezoneOffset] });
  for (const [name, text] of Object.entries(one.keys)) {
    const path = parseAttributePath(name)!;
    let at = root;
    for (const tag of path.slice(0, -1)) {
      let sequence = at.find((element) => element.tag === tag);
      if (!sequence) at.push((sequence = { tag, vr: 'SQ', items: [[]] }));
      at = sequence.items![0]!;
    }
    const tag = path.at(-1)!;
    const vr = vrOf(tag) as VR;
    const values = ['LT', 'ST', 'UT', 'UR'].includes(vr) ? [text] : text.split('\\');
    at.push({ tag, vr, values: vr === 'US' ? values.map(Number) : values });
  }
  const unique = tagOf(UNIQUE[one.level])!;
  if (!root.some((element) => element.tag === unique)) root.push({ tag: unique, vr: vrOf(unique) as VR });
  return encodeDataSet(root, { transferSyntaxUid: EXPLICIT, charset: 'ISO_IR 192' });
}

async function byFind(one: MatchingCase): Promise<string[] | 'invalid'> {
  const association = await associationFor(one.options);
  const found: string[] = [];
  for await (const { status, data } of find(association, PATIENT_ROOT_FIND, identifierOf(one))) {
    if (status === 0xa900) return 'invalid';
    if (status === 0) return found;
    assert.equal(status, 0xff00);
    const answer = new DataSet({ buffer: data!, transferSyntaxUid: EXPLICIT });
    assert.equal(answer.string(Tag.RetrieveAETitle), 'GANTRY');
    assert.equal(answer.string(Tag.InstanceAvailability), 'ONLINE');
    for (const name of Object.keys(one.keys))
      assert.ok(answer.has(parseAttributePath(name)![0]!), `${name} was asked for`);
    const value = answer.string(tagOf(UNIQUE[one.level])!) ?? '';
    found.push(one.level === 'PATIENT' ? value : (labels.get(value) ?? value));
  }
  throw new Error('a C-FIND without a final response');
}

async function byQido(one: MatchingCase): Promise<string[] | 'invalid'> {
  const { fuzzy, emptyValueMatching, multipleValueMatching, timezoneOffset } = one.options ?? {};
  const parameters = Object.entries(one.keys).map(([name, text]) => `${name}=${encodeURIComponent(text)}`);
  if (fuzzy) parameters.push('fuzzymatching=true');
  if (emptyValueMatching) parameters.push('emptyvaluematching=true');
  if (multipleValueMatching) parameters.push('multiplevaluematching=true');
  if (timezoneOffset) parameters.push(`TimezoneOffsetFromUTC=${encodeURIComponent(timezoneOffset)}`);
  const level = one.level as keyof typeof RESOURCE;
  const answer = await fetch(`${server.dicomWeb}/${RESOURCE[level]}?${parameters.join('&')}`);
  if (answer.status === 400) return 'invalid';
  assert.equal(answer.status, 200, await answer.clone().text());
  assert.equal(answer.headers.get('warning'), null);
  const rows = (await answer.json()) as Record<string, { Value?: string[] }>[];
  return rows.map((row) => {
    const uid = row[tagOf(UNIQUE[level])!.toString(16).toUpperCase().padStart(8, '0')]!.Value![0]!;
    return labels.get(uid) ?? uid;
  });
}

describe('matching through both doors', { timeout: 5 * 60_000 }, () => {
  before(async () => {
    server = await startServer();
    const classes = [...new Set(INSTANCES.map((one) => String(one.attributes.SOPClassUID!.Value![0])))];
    const association = await connect({
      host: '127.0.0.1',
      port: server.dimsePort,
      callingAeTitle: 'MATCHING',
      calledAeTitle: 'GANTRY',
      contexts: classes.map((abstractSyntax) => ({ abstractSyntax, transferSyntaxes: [EXPLICIT] })),
    });
    for (const one of INSTANCES) {
      const sopClassUid = String(one.attributes.SOPClassUID!.Value![0]);
      const { status } = await store(association, {
        contextId: association.findContext(sopClassUid)!.id,
        sopClassUid,
        sopInstanceUid: uidOf(one.instance),
        data: dataSetOfCase(one),
      });
      assert.equal(status, 0, one.instance);
    }
    await association.release();
  });
  after(async () => {
    for (const association of associations.values()) await association.release();
    await server?.close();
  });

  for (const one of MATCHING_CASES) {
    test(`C-FIND ${one.level}: ${one.name}`, async () => {
      const found = await byFind(one);
      if (one.expect === 'invalid') assert.equal(found, 'invalid');
      else assert.deepEqual([...found].sort(), expected(one));
    });
    if (one.level !== 'PATIENT' && !otherInQido(one))
      test(`QIDO-RS ${one.level}: ${one.name}`, async () => {
        const found = await byQido(one);
        if (one.expect === 'invalid') assert.equal(found, 'invalid');
        else assert.deepEqual([...found].sort(), expected(one));
      });
  }

  test('the cases were run', () => assert.ok(keysOfCase(MATCHING_CASES[0]!).length > 0 && MATCHING_CASES.length >= 80));
});
