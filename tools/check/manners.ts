// How code behaves: the rules about what stands in a file.
import type { Offence, Rule } from './rules.ts';
import { blank, lineAt, type SourceFile } from './source.ts';

const isOurs = (path: string) =>
  /^(services|tools)\//.test(path) && path.endsWith('.ts') && !path.startsWith('services/web/');
const isTest = (path: string) => path.endsWith('.test.ts');
const isGenerated = (path: string) => path.endsWith('.generated.ts');

/** Every place in the code (not in strings or comments) that the pattern finds. */
function grep(file: SourceFile, pattern: RegExp, says: string): Offence[] {
  const code = blank(file.text, { strings: true });
  return [...code.matchAll(pattern)].map((match) => ({
    path: file.path,
    line: lineAt(code, match.index),
    says: `${says}: ${match[0].trim()}`,
  }));
}

/** How far above the reason may stand: one comment for a few lines of tidying up. */
const REASON_LINES = 4;

/** A comment in the lines themselves, or a few above. */
function hasReason(file: SourceFile, from: number, to: number): boolean {
  const lines = file.text
    .split('\n')
    .slice(Math.max(0, lineAt(file.text, from) - 1 - REASON_LINES), lineAt(file.text, to));
  return lines.some((line) => /\/\/|\/\*|^\s*\*/.test(line));
}

/** The offset after the bracket that closes the one at `open`. */
function closing(code: string, open: number): number {
  let depth = 0;
  for (let at = open; at < code.length; at++) {
    if (code[at] === '{') depth++;
    if (code[at] === '}' && --depth === 0) return at + 1;
  }
  return code.length;
}

export const manners: Rule[] = [
  {
    name: 'no test is skipped or alone',
    looksAt: (file) => isOurs(file.path) && /\.(test|contract)\.ts$/.test(file.path),
    offences: (files) =>
      files.flatMap((file) => [
        ...grep(file, /\b(?:test|it|describe|suite)\s*\.\s*(?:only|skip|todo)\b/g, 'no test is left out'),
        ...grep(file, /\b(?:only|todo|skip)\s*:\s*(?:true\b|['"`])/g, 'no test is left out'),
        // Where a peer is missing: `skip: without('storescu')`, which CI never believes.
      ]),
  },
  {
    name: 'no error is swallowed',
    looksAt: (file) => isOurs(file.path),
    offences: (files) =>
      files.flatMap((file) => {
        const code = blank(file.text, { strings: true });
        const found: Offence[] = [];
        for (const match of code.matchAll(/\bcatch\s*(\([^)]*\)\s*)?\{/g)) {
          const open = match.index + match[0].length - 1;
          const end = closing(code, open);
          const empty = code.slice(open + 1, end - 1).trim() === '';
          const unseen = match[1] === undefined && !/\bthrow\b/.test(code.slice(open, end));
          // Whoever does not look at the error says why: in the block, or on the line above.
          if ((empty || unseen) && !hasReason(file, match.index, end - 1)) {
            found.push({
              path: file.path,
              line: lineAt(code, match.index),
              says: 'an error is swallowed without a reason in a comment',
            });
          }
        }
        for (const match of code.matchAll(
          /\.catch\(\s*(?:\(\s*\w*\s*\)|\w+)\s*=>\s*(?:\{\s*\}|undefined|null)\s*\)/g,
        )) {
          if (!hasReason(file, match.index, match.index + match[0].length)) {
            found.push({
              path: file.path,
              line: lineAt(code, match.index),
              says: 'an error is swallowed without a reason in a comment',
            });
          }
        }
        return found;
      }),
  },
  {
    name: 'nothing is left to do',
    looksAt: (file) => isOurs(file.path) && !file.path.startsWith('tools/check/'),
    offences: (files) =>
      files.flatMap((file) =>
        [...file.text.matchAll(/\/[/*].*\b(TODO|FIXME|XXX|HACK)\b/g)].map((match) => ({
          path: file.path,
          line: lineAt(file.text, match.index),
          says: `${match[1]}: an issue remembers it better`,
        })),
      ),
  },
  {
    name: 'no Manager, Helper, Util',
    looksAt: (file) => isOurs(file.path),
    offences: (files) =>
      files.flatMap((file) => [
        ...(/\b(utils?|helpers?|managers?|misc|common)\b[^/]*\.ts$/i.test(file.path)
          ? [{ path: file.path, says: 'says nothing: name what it holds' }]
          : []),
        ...grep(
          file,
          /\b(?:class|interface|type|function)\s+\w*(?:Manager|Helper|Util)s?\b/g,
          'says nothing: name what it is',
        ),
      ]),
  },
  {
    name: 'the product logs, it does not print',
    looksAt: (file) => file.path.startsWith('services/') && isOurs(file.path) && !isTest(file.path),
    offences: (files) => files.flatMap((file) => grep(file, /\bconsole\s*\.\s*\w+/g, 'use ctx.log')),
  },
  {
    name: 'a file holds one idea (400 lines)',
    warns: true,
    looksAt: (file) => isOurs(file.path) && !isGenerated(file.path),
    offences: (files) =>
      files.flatMap(({ path, text }) => {
        const lines = text.split('\n').length - 1;
        return lines > LINES && !TABLES.includes(path)
          ? [{ path, says: `${lines} lines: which second idea moved in?` }]
          : [];
      }),
  },
];

const LINES = 400;
/** Tables may be long. */
const TABLES = ['services/index/search/matching-cases.ts'];
