import { digestOf } from '#dicom/digest.ts';
import { writePart10Prefix } from '#dicom/part10.ts';
import type { Instance } from '#proto/storage/v1/log.ts';

/**
 * An entry's digest is SHA-256 over what stands before the data set, and its version (#dicom/digest.ts). What stands before is the same for
 * all instances that one door took from one sender, but for the SOP Instance UID: a block keeps it once, and 32 bytes an instance less.
 * A form is the prefix itself with the UID and the lengths that hang on it taken out, so that nothing depends on how a later release
 * writes prefixes; it is used only where it gives the very digest.
 */
const GROUP_LENGTH_AT = 140; // value of (0002,0000): preamble, DICM, its own header
const GROUP_BEGINS_AT = 144;
const UID_ELEMENT = Buffer.from([0x02, 0x00, 0x03, 0x00, 0x55, 0x49]); // (0002,0003) UI
/** Cuts a form in two; no UID, title or length field of ours holds it where it would matter: `formOf` proves each form. */
const CUT = '\u0001\u0002CUT\u0002\u0001';

/** Forms by what they are made of: writing a prefix anew costs more than trying one that fitted before. */
const tried = new Map<string, string>();
const TRIED_MAX = 1_000;

export function formOf(instance: Instance): string | undefined {
  const { sopClassUid, sopInstanceUid, transferSyntaxUid, source } = instance;
  const key = `${sopClassUid}\u0000${transferSyntaxUid}\u0000${source?.callingAeTitle ?? ''}`;
  const known = tried.get(key);
  if (
    known !== undefined &&
    known.length - CUT.length + 2 + 2 * Math.ceil(sopInstanceUid.length / 2) === instance.dataSetOffset &&
    digestFrom(known, sopInstanceUid, instance.version)?.equals(instance.digest)
  )
    return known;
  const form = newForm(instance);
  if (form !== undefined) {
    if (tried.size >= TRIED_MAX) tried.clear();
    tried.set(key, form);
  }
  return form;
}

function newForm(instance: Instance): string | undefined {
  const { sopClassUid, sopInstanceUid, transferSyntaxUid, source } = instance;
  const titles = [source?.callingAeTitle, undefined].filter((title, at) => at === 1 || title);
  for (const sourceAeTitle of titles) {
    const names = { sopClassUid, sopInstanceUid, transferSyntaxUid };
    const prefix = writePart10Prefix(sourceAeTitle === undefined ? names : { ...names, sourceAeTitle });
    if (prefix.length !== instance.dataSetOffset) continue;
    const at = prefix.indexOf(UID_ELEMENT, GROUP_BEGINS_AT);
    if (at < 0) continue;
    const lengthAt = at + UID_ELEMENT.length;
    const after = lengthAt + 2 + prefix.readUInt16LE(lengthAt);
    const before = Buffer.from(prefix.subarray(0, lengthAt));
    before.writeUInt32LE(0, GROUP_LENGTH_AT);
    const form = before.toString('latin1') + CUT + prefix.subarray(after).toString('latin1');
    if (digestFrom(form, sopInstanceUid, instance.version)?.equals(instance.digest)) return form;
  }
  return undefined;
}

export function digestFrom(form: string, sopInstanceUid: string, version: Uint8Array): Buffer | undefined {
  const cut = form.indexOf(CUT);
  if (cut < GROUP_BEGINS_AT) return undefined;
  const uid = sopInstanceUid.length % 2 === 0 ? sopInstanceUid : `${sopInstanceUid}\u0000`; // PS3.5 §9.1
  const prefix = Buffer.from(`${form.slice(0, cut)}\u0000\u0000${uid}${form.slice(cut + CUT.length)}`, 'latin1');
  prefix.writeUInt16LE(uid.length, cut);
  prefix.writeUInt32LE(prefix.length - GROUP_BEGINS_AT, GROUP_LENGTH_AT);
  return digestOf(prefix, version);
}
