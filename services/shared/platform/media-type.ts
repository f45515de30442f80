/** A media type (RFC 9110 §8.3.1), or a media range where its subtype is `*`, read as senders write it: `type=application/dicom` without its quotes is common and harmless. */
export interface MediaType {
  /** Lower case, without parameters: `multipart/related`. */
  type: string;
  /** Names in lower case; values as written, without quotes. The first of several equal names counts. */
  parameters: Map<string, string>;
}

const TOKEN = /[!#$%&'*+.^_`|~\w-]+/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/sy;
const UNQUOTED = /[^;"]*/y;
const BLANKS = /[ \t]*/y;

/** Each expression is anchored and cannot match one text in two ways: a header of blanks costs no more than its length. */
export function parseMediaType(text: string): MediaType | undefined {
  let at = 0;
  const take = (expression: RegExp): RegExpExecArray | null => {
    expression.lastIndex = at;
    const match = expression.exec(text);
    if (match) at = expression.lastIndex;
    return match;
  };
  take(BLANKS);
  const type = take(TOKEN);
  if (!type || text[at++] !== '/') return undefined;
  const subtype = take(TOKEN);
  if (!subtype) return undefined;
  const parameters = new Map<string, string>();
  for (;;) {
    take(BLANKS);
    if (at === text.length) return { type: `${type[0]}/${subtype[0]}`.toLowerCase(), parameters };
    if (text[at++] !== ';') return undefined;
    take(BLANKS);
    const name = take(TOKEN)?.[0].toLowerCase();
    if (name === undefined) continue; // `;;` and a `;` at the end are harmless
    take(BLANKS);
    if (text[at++] !== '=') return undefined;
    take(BLANKS);
    const value = take(QUOTED)?.[1]?.replace(/\\(.)/gs, '$1') ?? take(UNQUOTED)![0].trimEnd();
    if (!parameters.has(name)) parameters.set(name, value);
  }
}
