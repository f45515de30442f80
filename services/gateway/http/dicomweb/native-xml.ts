import type { FastifyReply } from 'fastify';
import { keywordOf } from '#dicom/tags.ts';
import { GantryError } from '#platform/errors.ts';
import { newBoundary, partHead, partsEnd, stream } from './respond.ts';

interface JsonAttribute {
  vr: string;
  Value?: unknown[];
  InlineBinary?: string;
  BulkDataURI?: string;
}
type JsonObject = Record<string, JsonAttribute>;

const XML = 'application/dicom+xml';
const DEPTH_MAX = 128; // above the skimmer's own limit: what was admitted can be written

const escapeXml = (text: string): string =>
  text
    // XML 1.0 §2.2 has no way to write these characters.
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd')
    .replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);

/** The Native DICOM Model (PS3.19 §A.1) of one DICOM JSON object. */
export function toNativeXml(dataSet: JsonObject): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM" xml:space="preserve">${attributes(dataSet, 0)}</NativeDicomModel>`;
}

function attributes(dataSet: JsonObject, depth: number): string {
  if (depth > DEPTH_MAX) throw new GantryError('unparsable', 'sequences are nested too deeply');
  let text = '';
  for (const [tag, attribute] of Object.entries(dataSet)) {
    const keyword = keywordOf(Number.parseInt(tag, 16));
    const creator = privateCreator(dataSet, tag);
    text += `<DicomAttribute tag="${tag}" vr="${attribute.vr}"${keyword ? ` keyword="${keyword}"` : ''}${creator ? ` privateCreator="${escapeXml(creator)}"` : ''}>`;
    if (attribute.InlineBinary !== undefined) text += `<InlineBinary>${attribute.InlineBinary}</InlineBinary>`;
    else if (attribute.BulkDataURI !== undefined) text += `<BulkData uri="${escapeXml(attribute.BulkDataURI)}"/>`;
    else text += (attribute.Value ?? []).map((value, i) => one(value, attribute.vr, i + 1, depth)).join('');
    text += '</DicomAttribute>';
  }
  return text;
}

function privateCreator(dataSet: JsonObject, tag: string): string | undefined {
  const value = Number.parseInt(tag, 16);
  if (((value >>> 16) & 1) === 0 || (value & 0xffff) < 0x1000) return undefined;
  const creator = dataSet[`${tag.slice(0, 4)}00${tag.slice(4, 6)}`]?.Value?.[0];
  return typeof creator === 'string' ? creator : undefined;
}

function one(value: unknown, vr: string, number: number, depth: number): string {
  if (vr === 'SQ') return `<Item number="${number}">${attributes((value ?? {}) as JsonObject, depth + 1)}</Item>`;
  // An empty value has an element too, else those at the end would be gone (one for each value, PS3.19 §A.1.5; so does DCMTK).
  if (vr === 'PN')
    return `<PersonName number="${number}">${Object.entries((value ?? {}) as Record<string, string>)
      .map(group)
      .join('')}</PersonName>`;
  return `<Value number="${number}">${escapeXml(String(value ?? ''))}</Value>`;
}

const COMPONENTS = ['FamilyName', 'GivenName', 'MiddleName', 'NamePrefix', 'NameSuffix'];

function group([name, text]: [string, string]): string {
  const components = text
    .split('^')
    .map((component, i) =>
      component === '' || COMPONENTS[i] === undefined
        ? ''
        : `<${COMPONENTS[i]}>${escapeXml(component)}</${COMPONENTS[i]}>`,
    );
  return `<${name}>${components.join('')}</${name}>`;
}

/** multipart/related of one XML document an instance or row (PS3.18 §8.7.3), each from its DICOM JSON: one at a time is in memory. */
export function sendXml(
  reply: FastifyReply,
  json: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<FastifyReply> {
  const boundary = newBoundary();
  reply.header('Content-Type', `multipart/related; type="${XML}"; boundary=${boundary}`);
  return stream(
    reply,
    (async function* () {
      let first = true;
      for await (const one of json) {
        yield partHead(boundary, { 'Content-Type': XML }, first);
        yield Buffer.from(toNativeXml(JSON.parse(new TextDecoder().decode(one))));
        first = false;
      }
      yield first ? Buffer.from(`--${boundary}--\r\n`) : partsEnd(boundary);
    })(),
  );
}
