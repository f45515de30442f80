import { DicomError } from '#dicom/errors.ts';
import { fromJson } from '#dicom/json-read.ts';
import { Tag } from '#dicom/tags.ts';
import { encodingOf, TransferSyntaxUid, trimUid } from '#dicom/uids.ts';
import { type Bulk, encodeDataSetPieces, type WriteElement } from '#dicom/write.ts';
import type { Call } from '#platform/call.ts';
import { GantryError, toGantryError } from '#platform/errors.ts';
import { parseMediaType } from '#platform/media-type.ts';
import type { Bytes } from '#platform/rpc.types.ts';
import type { StoreResponse, StowRequest } from '#proto/ingest/v1/ingest.ts';
import type { Accept } from './accept.ts';
import { fromDataSet } from './arrival.ts';
import type { Part } from './multipart.ts';
import { type JsonModel, nativeModelToJson } from './native-model.ts';
import { Pull } from './pull.ts';
import type { Spool, Spooled } from './spool.ts';
import type { InFlight } from './stow.ts';
import type { StowAnswer } from './stow-answer.ts';

/** An instance whose bulk data is still to come. */
interface Pending {
  model: JsonModel;
  waitsFor: Set<string>;
  uris: Set<string>;
  settle(response: StoreResponse): void;
}

/** The parts of one Content-Location: one, or a fragment each (PS3.18 §8.7.3: frames of compressed pixel data). */
interface Located {
  pieces: Spooled[];
  transferSyntaxUid: string | undefined;
  failure: GantryError | undefined;
  /** The instances that wait for it: a part looks at these, never at all. */
  users: Set<Pending>;
}

/** PS3.18 Table 8.7.3-2 ff.: what a media type means where no transfer-syntax parameter says it. */
const DEFAULT_SYNTAX: Record<string, string> = {
  'image/jpeg': '1.2.840.10008.1.2.4.70',
  'image/dicom-rle': '1.2.840.10008.1.2.5',
  'image/jls': '1.2.840.10008.1.2.4.80',
  'image/jp2': '1.2.840.10008.1.2.4.90',
  'image/jpx': '1.2.840.10008.1.2.4.92',
  'image/jphc': '1.2.840.10008.1.2.4.201',
  'video/mpeg2': '1.2.840.10008.1.2.4.100',
  'video/mp4': '1.2.840.10008.1.2.4.102',
};

/**
 * Metadata and bulk data (PS3.18 §8.6.1.2): each instance is put together as soon as its last bulk data part has come, and then goes
 * the way of all others, in Explicit VR Little Endian or in the syntax of its compressed pixel data.
 */
export class StowMetadata {
  readonly #accept: Accept;
  readonly #call: Call;
  readonly #request: StowRequest;
  readonly #answer: StowAnswer;
  readonly #inFlight: InFlight;
  readonly #spool: Spool;
  readonly #metadataBytesMax: number;
  readonly #instancesMax: number;
  readonly #pending = new Set<Pending>();
  readonly #located = new Map<string, Located>();
  #metadataBytes = 0;

  constructor(of: {
    accept: Accept;
    call: Call;
    request: StowRequest;
    answer: StowAnswer;
    inFlight: InFlight;
    spool: Spool;
    metadataBytesMax: number;
    instancesMax: number;
  }) {
    this.#accept = of.accept;
    this.#call = of.call;
    this.#request = of.request;
    this.#answer = of.answer;
    this.#inFlight = of.inFlight;
    this.#spool = of.spool;
    this.#metadataBytesMax = of.metadataBytesMax;
    this.#instancesMax = of.instancesMax;
  }

  async read(body: Bytes, type: 'json' | 'xml'): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of body) {
      if ((this.#metadataBytes += chunk.length) > this.#metadataBytesMax)
        throw new GantryError(
          'too-large',
          `metadata of more than ${this.#metadataBytesMax} bytes (ingest.stowMetadataBytes)`,
        );
      chunks.push(chunk);
    }
    const text = Buffer.concat(chunks).toString('utf8');
    const models = type === 'xml' ? [nativeModelToJson(text)] : modelsOf(text);
    if (this.#answer.parts + models.length > this.#instancesMax)
      throw new GantryError('too-large', `more than ${this.#instancesMax} instances (ingest.stowParts)`);
    for (const model of models) {
      const uris = new Set<string>();
      collectUris(model, uris, DEPTH_MAX);
      const pending: Pending = { model, uris, waitsFor: new Set(uris), settle: this.#answer.reserve() };
      this.#pending.add(pending);
      for (const uri of uris) {
        const located = this.#located.get(uri);
        if (located) located.users.add(pending);
        else
          this.#located.set(uri, {
            pieces: [],
            transferSyntaxUid: undefined,
            failure: undefined,
            users: new Set([pending]),
          });
      }
      if (uris.size === 0) await this.#store(pending);
    }
  }

  async bulk(part: Part): Promise<void> {
    const id = part.headers.get('content-id')?.replace(/^<|>$/g, '');
    const uri = keyOf(part.headers.get('content-location') ?? (id ? `cid:${id}` : ''));
    const located = this.#located.get(uri);
    if (!located || located.users.size === 0) return; // nobody asked for it: skipped
    const type = parseMediaType(part.headers.get('content-type') ?? 'application/octet-stream');
    located.transferSyntaxUid ??= type?.parameters.get('transfer-syntax') ?? DEFAULT_SYNTAX[type?.type ?? ''];
    try {
      if (!located.failure) located.pieces.push(await this.#spool.put(part.body));
    } catch (error) {
      const failure = toGantryError(error);
      if (!NO_ROOM.has(failure.code)) throw failure;
      located.failure = failure; // of the instances that need it; the others go on
    }
    for (const pending of [...located.users]) {
      pending.waitsFor.delete(uri);
      // A frame a part, perhaps: only their number or the end of the body tells.
      const frames = Number(pending.model['00280008']?.Value?.[0] ?? 1);
      if (pending.waitsFor.size === 0 && (frames <= 1 || located.pieces.length >= frames)) await this.#store(pending);
    }
  }

  /** The body has ended: what still waits will not come. */
  async finish(): Promise<void> {
    for (const pending of [...this.#pending]) await this.#store(pending);
  }

  async release(): Promise<void> {
    for (const located of this.#located.values())
      await Promise.all(located.pieces.splice(0).map((piece) => piece.dispose()));
  }

  async #store(pending: Pending): Promise<void> {
    this.#pending.delete(pending);
    try {
      const { transferSyntaxUid, pieces } = this.#encode(pending);
      const pull = new Pull(bytesOf(pieces), this.#call.signal);
      const stated = {
        sopClassUid: uidOf(pending.model, '00080016'),
        sopInstanceUid: uidOf(pending.model, '00080018'),
      };
      const received = await this.#accept.receive(
        this.#call,
        this.#request.source,
        this.#request.studyInstanceUid,
        pull,
        () => fromDataSet({ ...stated, transferSyntaxUid, source: this.#request.source }),
      );
      await this.#inFlight.add(received, pending.settle);
    } catch (error) {
      const named = {
        sopClassUid: uidOf(pending.model, '00080016'),
        sopInstanceUid: uidOf(pending.model, '00080018'),
        studyInstanceUid: uidOf(pending.model, '0020000D'),
        seriesInstanceUid: uidOf(pending.model, '0020000E'),
      };
      pending.settle(this.#accept.refuse(this.#call, this.#request.source, named, notUnderstood(error)));
    } finally {
      for (const uri of pending.uris) {
        const located = this.#located.get(uri)!;
        located.users.delete(pending);
        if (located.users.size === 0) await Promise.all(located.pieces.splice(0).map((piece) => piece.dispose()));
      }
    }
  }

  #encode(pending: Pending): { transferSyntaxUid: string; pieces: (Buffer | Bulk)[] } {
    const ofUri = (uri: string): Located => {
      const located = this.#located.get(keyOf(uri));
      if (located?.failure) throw located.failure;
      if (!located || located.pieces.length === 0) throw new GantryError('unparsable', 'a bulk data part is missing');
      return located;
    };
    const elements: WriteElement[] = fromJson(pending.model, {
      bulk: (uri) => {
        const { pieces } = ofUri(uri);
        return { length: pieces.reduce((sum, piece) => sum + piece.length, 0), source: pieces };
      },
    });
    const pixels = elements.find((element) => element.tag === Tag.PixelData && element.bulk);
    const uri = pending.model['7FE00010']?.BulkDataURI;
    const stated = (pixels && uri !== undefined && ofUri(uri).transferSyntaxUid) || TransferSyntaxUid.explicitLe;
    if (!pixels || encodingOf(stated) !== 'encapsulated') {
      const native = encodingOf(stated) === 'implicit' ? TransferSyntaxUid.explicitLe : stated; // the same pixel bytes
      return { transferSyntaxUid: native, pieces: encodeDataSetPieces(elements, { transferSyntaxUid: native }) };
    }
    const { pieces } = ofUri(uri!);
    pixels.fragments = pieces.map((piece) => ({ length: piece.length, source: [piece] }));
    pixels.vr = 'OB'; // PS3.5 §A.4
    delete pixels.bulk;
    return { transferSyntaxUid: stated, pieces: encodeDataSetPieces(elements, { transferSyntaxUid: stated }) };
  }
}

const DEPTH_MAX = 64;
const NO_ROOM = new Set(['no-permit', 'no-space', 'too-large', 'unavailable']);

function modelsOf(text: string): JsonModel[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // The parser's message quotes the text, which is a patient's: it goes no further.
    void error;
    throw new GantryError('invalid-argument', 'the metadata is not JSON');
  }
  const models = Array.isArray(value) ? value : [value];
  if (models.some((model) => typeof model !== 'object' || model === null || Array.isArray(model)))
    throw new GantryError('invalid-argument', 'the metadata is no array of DICOM JSON objects');
  return models as JsonModel[];
}

/** What is no attribute is left to `fromJson`, which says what is wrong with it. */
function collectUris(model: unknown, uris: Set<string>, depthLeft: number): void {
  if (typeof model !== 'object' || model === null || depthLeft < 0) return;
  for (const attribute of Object.values(model)) {
    if (typeof attribute?.BulkDataURI === 'string') uris.add(keyOf(attribute.BulkDataURI));
    if (attribute?.vr === 'SQ' && Array.isArray(attribute.Value))
      for (const item of attribute.Value) collectUris(item, uris, depthLeft - 1);
  }
}

/** Relative and absolute forms of one location are one. */
function keyOf(uri: string): string {
  return URL.canParse(uri, 'relative:/') ? new URL(uri, 'relative:/').href : uri;
}

const uidOf = (model: JsonModel, tag: string): string => {
  const value = model[tag]?.Value?.[0];
  return typeof value === 'string' ? trimUid(value) : '';
};

/** A model that cannot be written is not understood (C000), whatever was wrong with it. */
function notUnderstood(error: unknown): unknown {
  if (error instanceof DicomError && error.code === 'invalid-argument')
    return new GantryError('unparsable', error.message, { cause: error, offendingElements: error.offendingElements });
  return error;
}

async function* bytesOf(pieces: readonly (Buffer | Bulk)[]): AsyncGenerator<Buffer> {
  for (const piece of pieces) {
    if (Buffer.isBuffer(piece)) yield piece;
    else for (const spooled of piece.source as Spooled[]) yield* spooled.read();
  }
}
