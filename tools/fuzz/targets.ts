// What is fuzzed: every parser that meets bytes from outside. A target lets pass the errors that its parser promises; any
// other error, and any invariant that breaks, is a finding.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { charsetOf } from '#dicom/charset.ts';
import { DataSet } from '#dicom/dataset.ts';
import { DicomError } from '#dicom/errors.ts';
import { framePlaces } from '#dicom/frames.ts';
import { type JsonDataSet, toJsonText } from '#dicom/json.ts';
import { fromJson } from '#dicom/json-read.ts';
import { readPart10Prefix } from '#dicom/part10.ts';
import { skim } from '#dicom/skim.ts';
import { Tag } from '#dicom/tags.ts';
import { encodeDataSet } from '#dicom/write.ts';
import { type CommandSet, encodeCommand } from '#dimse/command.ts';
import { fuzzCommand, fuzzMessages, fuzzPdus } from '#dimse/fuzz.ts';
import { encodePdu, PDU } from '#dimse/pdu.ts';
import { GantryError } from '#platform/errors.ts';
import { parseMediaType } from '#platform/media-type.ts';
import { type FindQuery, parseFindIdentifier } from '../../services/gateway/dimse/find-identifier.ts';
import { acceptedRanges } from '../../services/gateway/http/accept.ts';
import { parseQidoParameters } from '../../services/gateway/http/qido-parameters.ts';
import { compileKeys, modelEntity } from '../../services/index/search/match.ts';
import { dateInterval, dateTimeInterval, parseOffset, timeInterval } from '../../services/index/search/match-time.ts';
import { decodeCursor, orderOf } from '../../services/index/search/order.ts';
import { MultipartReader } from '../../services/ingest/multipart.ts';
import { nativeModelToJson } from '../../services/ingest/native-model.ts';
import { scanFromEnd, scanFromStart } from '../../services/storage/log/scan.ts';
import { decodeTable, decodeTocFrame, encodeTocFrame } from '../../services/storage/log/toc.ts';
import { sampleFiles } from '../demo/samples.ts';

export interface Target {
  seeds(): Buffer[] | Promise<Buffer[]>;
  run(input: Buffer): void | Promise<void>;
  /** Words of the format, to put in. */
  words?: string[];
}

const EXPLICIT = '1.2.840.10008.1.2.1';
const SYNTAXES = [
  EXPLICIT,
  '1.2.840.10008.1.2',
  '1.2.840.10008.1.2.2',
  '1.2.840.10008.1.2.1.99',
  '1.2.840.10008.1.2.4.50',
];

const STORE: CommandSet = {
  commandField: 0x0001, // C-STORE-RQ
  messageId: 2,
  priority: 0,
  affectedSopClassUid: '1.2.840.10008.5.1.4.1.1.2',
  affectedSopInstanceUid: '1.2.3',
  hasData: true,
};

/** Runs it and lets the errors pass that it is meant to end with. */
function expecting(kinds: (new (...args: never[]) => Error)[], work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!kinds.some((kind) => error instanceof kind)) throw error;
  }
}

const texts = (...lines: string[]) => lines.map((line) => Buffer.from(line, 'latin1'));

/** The small samples, whole: what is inside is a data set of every shape that the demo has. */
async function smallFiles(): Promise<Buffer[]> {
  const files = (await sampleFiles()).map((path) => readFileSync(path));
  return [...files.filter((file) => file.length < 4096), ...files.map((file) => file.subarray(0, 1400)).slice(0, 3)];
}

async function dataSets(): Promise<Buffer[]> {
  return (await smallFiles()).flatMap((file) => {
    const prefix = readPart10Prefix(file, true);
    // The first byte chooses the transfer syntax.
    return 'needMoreBytes' in prefix ? [] : [Buffer.concat([Uint8Array.of(0), file.subarray(prefix.dataSetOffset)])];
  });
}

const memory = (bytes: Buffer) => ({
  bytes: bytes.length,
  read: async (offset: number, length: number) => bytes.subarray(offset, offset + length),
});

/** What a search looks at. */
const ROW: JsonDataSet = {
  '00080020': { vr: 'DA', Value: ['20200101'] },
  '00080030': { vr: 'TM', Value: ['101530'] },
  '00080061': { vr: 'CS', Value: ['CT', 'MR'] },
  '00080201': { vr: 'SH', Value: ['+0100'] },
  '00100010': { vr: 'PN', Value: [{ Alphabetic: 'Müller^Jürgen', Ideographic: '山田' }] },
  '00200011': { vr: 'IS', Value: [7] },
  '00400275': { vr: 'SQ', Value: [{ '00400009': { vr: 'SH', Value: ['SPS1'] } }] },
};

export const TARGETS: Record<string, Target> = {
  pdu: {
    seeds: () => [
      encodePdu({
        type: PDU.ASSOCIATE_RQ,
        protocolVersion: 1,
        calledAeTitle: 'GANTRY',
        callingAeTitle: 'FUZZ',
        applicationContext: '1.2.840.10008.3.1.1.1',
        contexts: [{ id: 1, abstractSyntax: '1.2.840.10008.1.1', transferSyntaxes: ['1.2.840.10008.1.2', EXPLICIT] }],
        user: {
          maxPduLength: 16384,
          implementationClassUid: '1.2.3',
          implementationVersionName: 'FUZZ',
          asyncOperations: { invoked: 1, performed: 1 },
          roles: [{ sopClassUid: '1.2.840.10008.1.1', scu: true, scp: true }],
          extended: [{ sopClassUid: '1.2.840.10008.1.1', info: Buffer.from([1, 0]) }],
          commonExtended: [{ sopClassUid: '1.2', serviceClassUid: '1.3', relatedGeneralSopClassUids: ['1.4'] }],
          userIdentity: {
            type: 1,
            positiveResponseRequested: true,
            primary: Buffer.from('u'),
            secondary: Buffer.from(''),
          },
        },
      }),
      encodePdu({
        type: PDU.P_DATA_TF,
        pdvs: [{ contextId: 1, command: true, last: true, data: Buffer.from('0000') }],
      }),
      encodePdu({ type: PDU.ASSOCIATE_RJ, result: 1, source: 1, reason: 7 }),
      encodePdu({ type: PDU.RELEASE_RQ }),
      encodePdu({ type: PDU.ABORT, source: 0, reason: 0 }),
    ],
    run: fuzzPdus,
  },
  command: {
    seeds: () => [
      encodeCommand({ commandField: 0x0030, messageId: 1, affectedSopClassUid: '1.2.840.10008.1.1', hasData: false }),
      encodeCommand(STORE),
    ],
    run: fuzzCommand,
  },
  messages: {
    seeds: () => [
      // A command in two fragments, its data set in two more.
      ...[encodeCommand(STORE)].map((command) =>
        Buffer.concat([
          encodePdu({
            type: PDU.P_DATA_TF,
            pdvs: [{ contextId: 1, command: true, last: false, data: command.subarray(0, 20) }],
          }),
          encodePdu({
            type: PDU.P_DATA_TF,
            pdvs: [
              { contextId: 1, command: true, last: true, data: command.subarray(20) },
              { contextId: 1, command: false, last: false, data: Buffer.from('da') },
              { contextId: 1, command: false, last: true, data: Buffer.from('ta') },
            ],
          }),
        ]),
      ),
    ],
    run: fuzzMessages,
  },
  'data-set': {
    seeds: dataSets,
    run: (input) =>
      expecting([DicomError], () => {
        const head = skim(input.subarray(1), SYNTAXES[(input[0] ?? 0) % SYNTAXES.length]!, {
          acceptTruncatedPixelData: true,
        });
        const dataSet = new DataSet(head);
        JSON.parse(toJsonText(dataSet));
        framePlaces(head, dataSet);
      }),
  },
  part10: {
    seeds: smallFiles,
    run: (input) => expecting([DicomError], () => void readPart10Prefix(input, true)),
  },
  'dicom-json': {
    seeds: () =>
      texts(
        '{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A^B","Ideographic":"C"}]},"00100020":{"vr":"LO","Value":["1"]}}',
        '{"00081115":{"vr":"SQ","Value":[{"0020000E":{"vr":"UI","Value":["1.2"]}}]},"00280010":{"vr":"US","Value":[1,2]}}',
        '{"7FE00010":{"vr":"OW","InlineBinary":"AAAA"},"00420011":{"vr":"OB","BulkDataURI":"x"},"00209165":{"vr":"AT","Value":["00100010"]}}',
        '{"00080018":{"vr":"UI"},"00281053":{"vr":"DS","Value":[1.5,"2"]},"00200013":{"vr":"IS","Value":[null,3]}}',
      ),
    run: (input) => {
      let model: unknown;
      try {
        model = JSON.parse(input.toString('utf8'));
      } catch {
        return; // no JSON: the door says so before we are asked
      }
      expecting([DicomError], () => void fromJson(model));
    },
    words: [
      '"Value":',
      '"vr":',
      '"InlineBinary":',
      '"SQ"',
      '"PN"',
      '"UN"',
      '[',
      '{',
      'null',
      '1e400',
      '-0',
      '"\\u0000"',
    ],
  },
  'native-xml': {
    seeds: () =>
      texts(
        '<?xml version="1.0"?><NativeDicomModel><DicomAttribute tag="00100010" vr="PN"><PersonName number="1"><Alphabetic><FamilyName>A</FamilyName></Alphabetic></PersonName></DicomAttribute></NativeDicomModel>',
        '<NativeDicomModel><DicomAttribute tag="00081115" vr="SQ"><Item number="1"><DicomAttribute tag="0020000E" vr="UI"><Value number="1">1.2</Value></DicomAttribute></Item></DicomAttribute></NativeDicomModel>',
      ),
    run: (input) => expecting([GantryError], () => void nativeModelToJson(input.toString('utf8'))),
    words: [
      '<Item number="1">',
      '</Item>',
      '<![CDATA[',
      ']]>',
      '<!--',
      '-->',
      '&#x0;',
      '&amp;',
      '<!DOCTYPE',
      'number="0"',
      '<Value number="99999999">',
    ],
  },
  multipart: {
    seeds: () =>
      texts(
        '--b\r\nContent-Type: application/dicom\r\n\r\nDATA\r\n--b\r\n\r\nMORE\r\n--b--\r\n',
        'preamble\r\n--b \r\nContent-Type: a\r\n folded\r\n\r\n\r\n--bX\r\n--b--epilogue',
        '--b\nContent-Type: a\n\nDATA\n--b--',
      ),
    run: fuzzMultipart,
    words: ['--b', '\r\n--b\r\n', '\r\n--b--', '\r\n\r\n', 'Content-Type: ', '\n'],
  },
  'media-type': {
    seeds: () =>
      texts(
        'multipart/related; type="application/dicom"; boundary=b',
        'application/dicom+json;q=0.5, */*;q=0.1',
        'multipart/related;type=image/jpeg;transfer-syntax=*',
      ),
    run: (input) => {
      const text = input.toString('latin1');
      expecting([GantryError], () => void parseMediaType(text));
      expecting([GantryError], () => void acceptedRanges(text, undefined));
    },
    words: ['"', ';', ',', 'q=', '\\"', 'type=', 'transfer-syntax=', '*/*'],
  },
  qido: {
    seeds: () =>
      texts(
        'PatientName=A*&00080020=20200101-20201231&includefield=all&limit=10&offset=5',
        'fuzzymatching=true&00081115.0020000E=1.2.3&orderby=-StudyDate',
        'ModalitiesInStudy=CT,MR&StudyInstanceUID=1.2,1.3\\1.4&includefield=00081030,StudyTime',
      ),
    run: (input) =>
      expecting([GantryError], () => {
        const { request } = parseQidoParameters({ level: 'STUDY' }, input.toString('latin1'));
        for (const condition of compileKeys(request.match, request)) condition.test(modelEntity(ROW));
        decodeCursor(orderOf(request, 'STUDY'), request.cursor);
      }),
    words: [
      '&',
      '=',
      '%',
      '%00',
      '%5C',
      'includefield=',
      'limit=',
      'offset=',
      'StudyDate=',
      '-',
      ',',
      '00080020',
      '*',
      '?',
      'orderby=',
    ],
  },
  'find-identifier': {
    seeds: () =>
      [
        { '00080052': ['CS', 'STUDY'], '00100010': ['PN', { Alphabetic: 'A*' }], '00080020': ['DA', '20200101-'] },
        { '00080005': ['CS', 'ISO_IR 100'], '00080061': ['CS', 'CT', 'MR'], '0020000D': ['UI', '1.2', '1.3'] },
        {
          '00080052': ['CS', 'SERIES'],
          '0020000D': ['UI', '1.2'],
          '00400275': ['SQ', { '00400009': { vr: 'SH', Value: ['*'] } }],
        },
      ].map((keys) => {
        const model = Object.entries(keys).map(([key, [vr, ...Value]]) => [key, { vr, Value }]);
        return encodeDataSet(Object.fromEntries(model), { transferSyntaxUid: EXPLICIT });
      }),
    run: (input) => {
      let query: FindQuery | undefined;
      expecting([DicomError, GantryError], () => {
        const identifier = new DataSet({ buffer: input, transferSyntaxUid: EXPLICIT });
        query = parseFindIdentifier(identifier, {
          model: 'patient-root',
          relational: true,
          dateTime: true,
          fuzzy: true,
          timezone: true,
          emptyValue: true,
          multipleValue: true,
          aeTitle: 'GANTRY',
        });
        for (const condition of compileKeys(query.request.match, query.request)) condition.test(modelEntity(ROW));
      });
      if (!query) return;
      // Whatever was asked for: an answer can be written, and its text is in the set that it names.
      const { model, charset } = query.answer(Buffer.from(JSON.stringify(ROW)));
      const answer = new DataSet({
        buffer: encodeDataSet(model as JsonDataSet, { transferSyntaxUid: EXPLICIT, charset }),
        transferSyntaxUid: EXPLICIT,
      });
      assert.equal(answer.strings(Tag.SpecificCharacterSet).join('\\'), charset);
      if (answer.has(Tag.PatientName)) assert.equal(answer.string(Tag.PatientName), 'Müller^Jürgen=山田');
    },
    words: ['PN', 'UI', 'SQ', '*', '?', '\\', '-', '""', '=', '^', '\u0010\u0000\u0010\u0000', '\u0008\u0000'],
  },
  values: {
    seeds: () =>
      texts('20200101-20201231', '-20200101', '101530.123456-', '20200101101530.5+0130', 'A^B^C^D^E=F=G', '=^='),
    run: (input) => {
      const text = input.toString('utf8');
      for (const parse of [dateInterval, timeInterval, dateTimeInterval]) {
        const interval = parse(text);
        if (interval !== undefined) assert.ok(interval.from <= interval.to && Number.isFinite(interval.to));
      }
      const minutes = parseOffset(text);
      if (minutes !== undefined) assert.ok(Math.abs(minutes) < 15 * 60);
    },
    words: ['-', '+0000', '-1200', '.', '^', '=', '9999', '240000', '0229'],
  },
  charset: {
    seeds: () =>
      texts(
        '\\ISO 2022 IR 87\0Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B',
        'ISO_IR 192\0\xc3\xa9\xff',
        'GB18030\0\xcd\xf5^\xd0\xa1',
        'ISO 2022 IR 13\\ISO 2022 IR 87\0\xd4\xcf',
      ),
    run: (input) => {
      const end = Math.max(0, input.indexOf(0));
      const charset = charsetOf(input.toString('latin1', 0, end));
      for (const kind of ['text', 'multi', 'name'] as const)
        assert.equal(typeof charset.decode(input.subarray(end + 1), kind), 'string');
    },
    words: ['\x1b$B', '\x1b(B', '\x1b(J', '\x1b$)C', '\x1b-F', '\x1b$(D', 'ISO 2022 IR 149', '\\', '^', '='],
  },
  table: {
    seeds: () => {
      const frame = encodeTocFrame({
        sequence: 1,
        commitOffset: 0,
        previousToc: -1,
        crc: 0,
        table: Buffer.from('0a046d61696e', 'hex'),
      });
      return [frame, Buffer.from('0a046d61696e12014c180120012a00', 'hex')];
    },
    run: async (input) => {
      // From here on bytes of a disk: never an exception, whatever they are.
      decodeTocFrame(input);
      decodeTable(input, 'main', 'L', 1);
      const frame = encodeTocFrame({ sequence: 1, commitOffset: 0, previousToc: -1, crc: 0, table: input });
      const decoded = decodeTocFrame(frame);
      assert.ok(typeof decoded === 'object' && decoded.table.equals(input));
      await scanFromEnd(memory(input), 1, undefined);
      await scanFromStart(memory(input), 1);
    },
    words: ['GTOC', 'ustar\x0000', 'main'],
  },
};

/** However the body is cut into chunks, the parts are the same, and no more bytes come out than went in. */
async function fuzzMultipart(input: Buffer): Promise<void> {
  const read = async (chunkLength: number): Promise<string> => {
    const chunks = async function* () {
      for (let at = 0; at < input.length; at += chunkLength) yield input.subarray(at, at + chunkLength);
    };
    const reader = new MultipartReader(chunks()[Symbol.asyncIterator](), 'b', { partsMax: 16, headerBytesMax: 512 });
    const said: string[] = [];
    try {
      for (let part = await reader.next(); part !== undefined; part = await reader.next()) {
        const body: Buffer[] = [];
        for await (const chunk of part.body) body.push(Buffer.from(chunk));
        said.push(JSON.stringify([...part.headers]), Buffer.concat(body).toString('hex'));
      }
    } catch (error) {
      if (!(error instanceof GantryError)) throw error;
      said.push(error.code);
    }
    return said.join('\n');
  };
  const whole = await read(input.length + 1);
  assert.equal(await read(1), whole);
  assert.equal(await read(7), whole);
}
