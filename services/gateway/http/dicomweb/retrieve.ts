import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ZipFile } from 'yazl';
import { trimUid } from '#dicom/uids.ts';
import { GantryError } from '#platform/errors.ts';
import type { Located } from '#proto/index/v1/index.ts';
import type { Reader } from '../../read.ts';
import { EXPLICIT_VR_LITTLE_ENDIAN, part10Bytes, type Representation, represent } from '../../representation.ts';
import { acceptedRanges, covers, type MediaRange } from '../accept.ts';
import {
  newBoundary,
  notFound,
  type Part,
  partHead,
  partsEnd,
  sendParts,
  sendRanged,
  stream,
  warn,
} from './respond.ts';

export interface Level {
  study: string;
  series?: string;
  instance?: string;
}

const DICOM = 'application/dicom';

/** The UIDs of a path, opaque as received: only padding is trimmed. */
export function levelOf(request: FastifyRequest): Level {
  const params = request.params as { study: string; series?: string; instance?: string };
  return {
    study: trimUid(params.study),
    series: params.series === undefined ? undefined : trimUid(params.series),
    instance: params.instance === undefined ? undefined : trimUid(params.instance),
  };
}

export const locateRequest = (level: Level) => ({
  studyInstanceUids: [level.study],
  seriesInstanceUids: level.series === undefined ? [] : [level.series],
  sopInstanceUids: level.instance === undefined ? [] : [level.instance],
});

/** Of the file, its sender's prefix included: equal data sets from two senders are two files, and a range of one fits no other. */
export const etagOf = (located: Located, variant = ''): string =>
  `"${Buffer.from(located.digest).toString('hex').slice(0, 32)}${variant}"`;

export const rangesOf = (request: FastifyRequest): MediaRange[] =>
  acceptedRanges(request.headers.accept, (request.query as Record<string, string | string[] | undefined>).accept);

/**
 * The transfer syntax that a range asks of application/dicom. Not said means Explicit VR Little Endian (PS3.18 Table 8.7.3-2); a client
 * that names no subtype (PS3.18 §8.7.5) takes it with any parameter, and so as stored.
 */
const askedSyntax = (range: MediaRange): string =>
  range.transferSyntax ?? (range.type.endsWith('/*') ? '*' : EXPLICIT_VR_LITTLE_ENDIAN);

/** The first range that gives this instance, and how. */
function choose(located: Located, ranges: readonly MediaRange[]): Representation | undefined {
  for (const range of ranges) {
    const as = covers(range, DICOM) ? represent(located, askedSyntax(range)) : undefined;
    if (as !== undefined) return as;
  }
  return undefined;
}

/** WADO-RS of studies, series and instances (PS3.18 §10.4.1.1.1). */
export function retrieveRoutes(app: FastifyInstance, reader: Reader): void {
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const level = levelOf(request);
    const ranges = rangesOf(request);
    const located = await reader.locate(request.call, locateRequest(level));
    if (located.length === 0) throw notFound('this study, series or instance');

    // `application/*` is no multipart: where nothing better is said, it is one instance, or several as a zip (RFC 9110 §12.5.1).
    const single = level.instance !== undefined;
    const anyOne = (range: MediaRange) => !range.multipart && range.type === 'application/*';
    const dicom = ranges.filter((range) => covers(range, DICOM));
    const zipped = !single && !dicom.some((range) => range.multipart || range.type === '*/*');
    const zip = ranges.findIndex(
      (range) => !range.multipart && (range.type === 'application/zip' || (zipped && anyOne(range))),
    );
    // What could carry the answer: one instance by itself cannot carry several.
    const first = dicom.find((range) => single || range.multipart || range.type === '*/*');
    if (zip >= 0 && (first === undefined || zip <= ranges.indexOf(first)))
      return sendZip(request, reply, reader, located, ranges[zip]!);
    if (dicom.length === 0)
      throw new GantryError(
        'not-acceptable',
        'instances are offered as application/dicom and application/zip; pictures need a renderer, which this release has not',
      );

    // A single part is only for one instance; `*/*` alone gets the multipart that PS3.18 §10.4.4 makes the default.
    const best = dicom[0]!;
    const multipart = best.multipart || best.type === '*/*' || dicom.some((range) => range.multipart);
    if (!multipart && !single) {
      throw new GantryError(
        'not-acceptable',
        'several instances need multipart/related; type="application/dicom", or application/zip',
      );
    }
    const given = located.map((one) => ({ one, as: choose(one, dicom) })).filter((pair) => pair.as !== undefined) as {
      one: Located;
      as: Representation;
    }[];
    if (given.length === 0) {
      throw new GantryError(
        'not-acceptable',
        'no instance can be given in a transfer syntax that was asked for: transfer-syntax=* gives them as they are stored',
      );
    }
    if (given.length < located.length) {
      partly(reply, given.length, located.length);
    }
    if (!best.multipart && (best.type === DICOM || anyOne(best)) && given.length === 1)
      return sendSingle(request, reply, reader, given[0]!);
    return sendInstances(request, reply, reader, given);
  };
  const config = { useCase: 'http.wado.retrieve', event: 'DICOM Instances Transferred', action: 'R' } as const;
  app.get('/studies/:study', { config }, handler);
  app.get('/studies/:study/series/:series', { config }, handler);
  app.get('/studies/:study/series/:series/instances/:instance', { config }, handler);
}

/** Instances as multipart; where all go out as stored, their bytes pass through unparsed and neighbours are one read. */
function sendInstances(
  request: FastifyRequest,
  reply: FastifyReply,
  reader: Reader,
  given: { one: Located; as: Representation }[],
): Promise<FastifyReply> {
  const headers = (as: Representation) => ({ 'Content-Type': `${DICOM}; transfer-syntax=${as.transferSyntaxUid}` });
  if (!given.every(({ as }) => as.asStored)) {
    const parts: Part[] = given.map(({ one, as }) => ({
      headers: headers(as),
      length: as.asStored ? reader.fileLength(one) : undefined,
      body: () => part10Bytes(reader, request.call, one, as),
    }));
    return sendParts(reply, DICOM, parts);
  }
  const boundary = newBoundary();
  const heads = new Map(given.map(({ one, as }, i) => [one, partHead(boundary, headers(as), i === 0)]));
  let length = partsEnd(boundary).length;
  for (const [one, head] of heads) length += head.length + reader.fileLength(one);
  reply
    .header('Content-Type', `multipart/related; type="${DICOM}"; boundary=${boundary}`)
    .header('Content-Length', length);
  return stream(
    reply,
    (async function* () {
      for await (const { file, chunk, first } of reader.readFiles(
        request.call,
        given.map(({ one }) => one),
      )) {
        if (first) yield heads.get(file)!;
        yield chunk;
      }
      yield partsEnd(boundary);
    })(),
  );
}

function sendSingle(
  request: FastifyRequest,
  reply: FastifyReply,
  reader: Reader,
  { one, as }: { one: Located; as: Representation },
): FastifyReply | Promise<FastifyReply> {
  const type = `${DICOM}; transfer-syntax=${as.transferSyntaxUid}`;
  if (!as.asStored) {
    reply.header('Content-Type', type).header('ETag', etagOf(one, `-${as.transferSyntaxUid}`));
    return stream(reply, part10Bytes(reader, request.call, one, as));
  }
  return sendRanged(request, reply, {
    type,
    etag: etagOf(one),
    length: reader.fileLength(one),
    read: (start, end) => reader.read(request.call, one, { start, end }),
  });
}

/** One file an instance, stored without compression: pixels hardly shrink, and CPU is what a big study needs. */
function sendZip(
  request: FastifyRequest,
  reply: FastifyReply,
  reader: Reader,
  located: Located[],
  range: MediaRange,
): FastifyReply | Promise<FastifyReply> {
  const asked = range.transferSyntax ?? '*';
  const given = located.map((one) => ({ one, as: represent(one, asked) })).filter((pair) => pair.as !== undefined) as {
    one: Located;
    as: Representation;
  }[];
  if (given.length === 0)
    throw new GantryError('not-acceptable', 'no instance can be given in the transfer syntax that was asked for');
  if (given.length < located.length) partly(reply, given.length, located.length);
  reply.header('Content-Type', 'application/zip').header('Content-Disposition', 'attachment; filename="study.zip"');
  if (request.method === 'HEAD') return stream(reply, NO_BYTES);
  const zip = new ZipFile();
  const output = zip.outputStream as Readable;
  zip.on('error', (error: Error) => output.destroy(error));
  const names = new Set<string>();
  for (const { one, as } of given) {
    zip.addReadStreamLazy(uniqueName(one, names), { compress: false, mtime: EPOCH }, (callback) => {
      callback(
        null,
        Readable.from(part10Bytes(reader, request.call, one, as), { objectMode: false }).on('error', (error) =>
          output.destroy(error),
        ),
      );
    });
  }
  zip.end();
  return reply.send(output);
}

const NO_BYTES: AsyncIterable<Buffer> = Readable.from([]);

/** PS3.18 Table 10.4.3-1. */
function partly(reply: FastifyReply, given: number, of: number): void {
  reply.code(206);
  warn(reply, `${of - given} of ${of} instances cannot be given in a transfer syntax that was asked for`);
}

const EPOCH = new Date('2000-01-01T00:00:00Z'); // the same bytes for the same study

/** Nothing climbs out of where it is unpacked, however hostile a UID. */
function uniqueName(one: Located, taken: Set<string>): string {
  const safe = (uid: string) =>
    /^[0-9.]+$/.test(uid) && !/^\.+$/.test(uid) ? uid : Buffer.from(uid, 'utf8').toString('hex');
  const stem = `${safe(one.studyInstanceUid)}/${safe(one.seriesInstanceUid)}/${safe(one.sopInstanceUid)}`;
  const name = taken.has(stem) ? `${stem}.${Buffer.from(one.version).toString('hex').slice(0, 8)}` : stem;
  taken.add(name);
  return `${name}.dcm`;
}
