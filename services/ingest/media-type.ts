/** A Content-Type (RFC 9110 §8.3), read as senders write it: `type=application/dicom` without its quotes is common and harmless. */
export interface MediaType {
  /** Lower case, without parameters: `multipart/related`. */
  type: string;
  /** Names in lower case; values as written, without quotes. The first of several equal names counts. */
  parameters: Map<string, string>;
}

const HEAD = /^[ \t]*([!#$%&'*+.^_`|~\w-]+\/[!#$%&'*+.^_`|~\w-]+)[ \t]*/;
const PARAMETER = /;[ \t]*(?:([!#$%&'*+.^_`|~\w-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;"]*?)))?[ \t]*(?=;|$)/y;

export function parseMediaType(text: string): MediaType | undefined {
  const head = HEAD.exec(text);
  if (!head) return undefined;
  const parameters = new Map<string, string>();
  PARAMETER.lastIndex = head[0].length;
  while (PARAMETER.lastIndex < text.length) {
    const match = PARAMETER.exec(text);
    if (!match) return undefined;
    const name = match[1]?.toLowerCase();
    if (name !== undefined && !parameters.has(name))
      parameters.set(name, match[2] === undefined ? (match[3] ?? '') : match[2].replace(/\\(.)/g, '$1'));
  }
  return { type: head[1]!.toLowerCase(), parameters };
}
