import type { Call } from '#platform/call.ts';
import { GantryError, toGantryError } from '#platform/errors.ts';
import { type MediaType, parseMediaType } from '#platform/media-type.ts';
import type { Bytes } from '#platform/rpc.types.ts';
import type { StoreResponse, StowRequest, StowResponse } from '#proto/ingest/v1/ingest.ts';
import type { Accept, Received } from './accept.ts';
import { MultipartReader, type Part } from './multipart.ts';
import { Pull } from './pull.ts';
import { PART_HEADER_BYTES_MAX } from './settings.ts';
import type { Spool } from './spool.ts';
import { StowAnswer } from './stow-answer.ts';
import { StowMetadata } from './stow-metadata.ts';

export interface StowLimits {
  parallel: number;
  partsMax: number;
  metadataBytesMax: number;
}

/** A request's instances whose answers are still to come: enough of them at once that they share a flush. */
export class InFlight {
  readonly #answers = new Set<Promise<void>>();
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  async add(received: Received, settle: (response: StoreResponse) => void): Promise<void> {
    const answer = received.answer.then((response) => {
      this.#answers.delete(answer);
      settle(response);
    });
    this.#answers.add(answer);
    while (this.#answers.size >= this.#max) await Promise.race(this.#answers);
  }

  async settled(): Promise<void> {
    await Promise.all(this.#answers);
  }
}

/** STOW-RS (PS3.18 §10.5): a body of any number of instances, one after the other; what fails of it does not stop the rest. */
export class Stow {
  readonly #accept: Accept;
  readonly #limits: () => StowLimits;
  readonly #spool: Spool;

  constructor(accept: Accept, limits: () => StowLimits, spool: Spool) {
    this.#accept = accept;
    this.#limits = limits;
    this.#spool = spool;
  }

  async stow(call: Call, request: StowRequest, body: Bytes): Promise<{ response: StowResponse; body?: Bytes }> {
    const pull = new Pull(body, call.signal);
    const answer = new StowAnswer(request.retrieveRoot, request.studyInstanceUid);
    const inFlight = new InFlight(this.#limits().parallel);
    try {
      await this.#read(call, request, pull, answer, inFlight);
    } catch (error) {
      const refusal = toGantryError(error);
      await inFlight.settled();
      if (refusal.code === 'cancelled' || refusal.code === 'internal') throw refusal;
      await pull.drain(); // an HTTP client reads the answer only after it has sent everything
      return { response: refusalOf(refusal) };
    }
    await inFlight.settled();
    if (call.signal.aborted) throw toGantryError(call.signal.reason);
    if (answer.parts === 0)
      return { response: refusalOf(new GantryError('invalid-argument', 'the body holds no instance')) };
    const response = answer.response();
    if (response.error !== '') return { response };
    return { response, body: once(Buffer.from(JSON.stringify(answer.json()))) };
  }

  async #read(call: Call, request: StowRequest, pull: Pull, answer: StowAnswer, inFlight: InFlight): Promise<void> {
    const media = parseMediaType(request.contentType);
    const of = media?.type === 'multipart/related' ? (media.parameters.get('type') ?? '').toLowerCase() : media?.type;
    const alone = media?.type !== 'multipart/related';
    switch (of) {
      case 'application/dicom':
      case '': // RFC 2387 wants `type`; without it the parts say what they are
        if (alone) return await this.#instance(call, request, pull, answer, inFlight);
        return await this.#instances(call, request, this.#reader(media!, pull), answer, inFlight);
      case 'application/dicom+json':
      case 'application/dicom+xml': {
        const { metadataBytesMax, partsMax: instancesMax } = this.#limits();
        const [accept, spool] = [this.#accept, this.#spool];
        const metadata = new StowMetadata({
          accept,
          call,
          request,
          answer,
          inFlight,
          spool,
          metadataBytesMax,
          instancesMax,
        });
        try {
          if (alone) await metadata.read(pull, METADATA[of]);
          else await this.#metadataAndBulk(metadata, this.#reader(media!, pull), answer, of);
          return await metadata.finish();
        } finally {
          await metadata.release();
        }
      }
      default:
        throw new GantryError(
          'unsupported-media-type',
          'Content-Type must be multipart/related of type application/dicom, application/dicom+json or application/dicom+xml',
        );
    }
  }

  #reader(media: MediaType, pull: Pull): MultipartReader {
    return new MultipartReader(pull, media.parameters.get('boundary') ?? '', {
      partsMax: this.#limits().partsMax,
      headerBytesMax: PART_HEADER_BYTES_MAX,
    });
  }

  async #instance(call: Call, request: StowRequest, pull: Pull, answer: StowAnswer, inFlight: InFlight): Promise<void> {
    const settle = answer.reserve();
    await inFlight.add(await this.#accept.receivePart10(call, request, pull), settle);
  }

  async #instances(
    call: Call,
    request: StowRequest,
    reader: MultipartReader,
    answer: StowAnswer,
    inFlight: InFlight,
  ): Promise<void> {
    await eachPart(reader, answer, async (part) => {
      const type = part.headers.get('content-type');
      const media = type === undefined ? undefined : parseMediaType(type)?.type;
      // octet-stream: what clients send that hand over a file without looking into it.
      if (type !== undefined && media !== 'application/dicom' && media !== 'application/octet-stream')
        return answer.fail('unsupported-media-type');
      await this.#instance(call, request, new Pull(part.body, call.signal), answer, inFlight);
    });
  }

  /** PS3.18 §8.6.1.2: the metadata first (of all instances in JSON, a part an instance in XML), then the bulk data that its URIs name. */
  async #metadataAndBulk(
    metadata: StowMetadata,
    reader: MultipartReader,
    answer: StowAnswer,
    of: keyof typeof METADATA,
  ): Promise<void> {
    await eachPart(reader, answer, async (part) => {
      const type = part.headers.get('content-type');
      const media = type === undefined && part.index === 0 ? of : parseMediaType(type ?? '')?.type;
      if (media !== undefined && Object.hasOwn(METADATA, media)) {
        try {
          await metadata.read(part.body, METADATA[media as keyof typeof METADATA]);
        } catch (error) {
          // With others before it, it is one failure among their outcomes.
          if (answer.parts === 0 || toGantryError(error).code !== 'invalid-argument') throw error;
          answer.fail('unparsable');
        }
      } else if (part.index === 0)
        throw new GantryError('unsupported-media-type', `the first part must be the metadata, ${of}`);
      else await metadata.bulk(part);
    });
  }
}

const METADATA = {
  'application/dicom+json': 'json',
  'application/dicom+xml': 'xml',
  'application/json': 'json',
} as const;

/**
 * A body that breaks off, or is no multipart from some point on, keeps the outcomes of what came before; what was being read then has
 * failed. Without any outcome the request as a whole is refused.
 */
async function eachPart(
  reader: MultipartReader,
  answer: StowAnswer,
  read: (part: Part) => Promise<void>,
): Promise<void> {
  try {
    for (let part = await reader.next(); part; part = await reader.next()) await read(part);
  } catch (error) {
    const failure = toGantryError(error);
    if (failure.code !== 'unparsable' && failure.code !== 'too-large') throw failure;
    if (answer.parts === 0)
      throw failure.code === 'unparsable'
        ? new GantryError('invalid-argument', failure.message, { cause: failure })
        : failure;
    if (!reader.brokenWithinPart) answer.fail(failure.code);
  }
}

function refusalOf(error: GantryError): StowResponse {
  return { stored: 0, warned: 0, failed: 0, error: error.code, errorMessage: error.message, positions: [] };
}

async function* once(buffer: Buffer): AsyncGenerator<Buffer> {
  yield buffer;
}
