// What a rule looks at: the files of the checkout as git knows them, their imports, and their text without comments.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

export interface SourceFile {
  /** Relative to the checkout, with slashes. */
  path: string;
  text: string;
}

export interface Import {
  /** As written: `#platform/errors.ts`, `./fold.ts`, `node:fs`, `pino`. */
  specifier: string;
  /** A path in the checkout where it is one of ours, else undefined. */
  path: string | undefined;
  line: number;
}

/** As package.json's `imports`; the check compares them. */
export const ALIASES: Record<string, string> = {
  '#dicom/': 'services/shared/dicom/',
  '#dimse/': 'services/shared/dimse/',
  '#platform/': 'services/shared/platform/',
  '#proto/': 'proto/gen/gantry/',
};

/** Every file that is or will be in the repo: tracked, or new and not ignored. */
export function readCheckout(root: string): SourceFile[] {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  return [...new Set(listed.split('\0'))]
    .filter((path) => path !== '')
    .flatMap((path) => {
      try {
        return [{ path, text: isText(path) ? readFileSync(join(root, path), 'utf8') : '' }];
      } catch (error) {
        // Deleted in the working tree and still in the index: not a file any more.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
        throw error;
      }
    });
}

const isText = (path: string) => /\.(ts|js|mjs|md|json|ya?ml|sh|proto|service)$/.test(path) || !/\.\w+$/.test(path);

export function importsOf(file: SourceFile): Import[] {
  const text = blank(file.text, { strings: false });
  const code = blank(file.text, { strings: true });
  const found: Import[] = [];
  const pattern = /\b(?:import|export)\b[^'"`;]*?\bfrom\s*(['"])([^'"\n]+)\1|\bimport\s*\(?\s*(['"])([^'"\n]+)\3/g;
  for (const match of text.matchAll(pattern)) {
    // The word stands in a string, not in the code.
    if (code[match.index] !== text[match.index]) continue;
    const specifier = match[2] ?? match[4]!;
    found.push({ specifier, path: resolveSpecifier(file.path, specifier), line: lineAt(text, match.index) });
  }
  return found;
}

function resolveSpecifier(from: string, specifier: string): string | undefined {
  if (specifier.startsWith('.')) return normalize(join(dirname(from), specifier));
  for (const [alias, folder] of Object.entries(ALIASES)) {
    if (specifier.startsWith(alias)) return normalize(folder + specifier.slice(alias.length));
  }
  return undefined;
}

export const lineAt = (text: string, offset: number) => text.slice(0, offset).split('\n').length;

/**
 * The text with comments (and strings, where asked) turned into spaces, so that offsets and lines stay. It is a scanner, not
 * a parser: enough to tell code from what is said about code.
 */
export function blank(text: string, { strings }: { strings: boolean }): string {
  const out = text.split('');
  const wipe = (from: number, to: number) => {
    for (let i = from; i < to; i++) if (out[i] !== '\n') out[i] = ' ';
  };
  /** Where a `}` ends a template's `${`: the depth of braces at which it does. */
  const templates: number[] = [];
  let depth = 0;
  let at = 0;

  const template = () => {
    const from = at;
    while (at < text.length && text[at] !== '`') {
      if (text[at] === '\\') at++;
      else if (text[at] === '$' && text[at + 1] === '{') {
        if (strings) wipe(from, at);
        at += 2;
        templates.push(depth++);
        return;
      }
      at++;
    }
    if (strings) wipe(from, at);
    at++;
  };

  while (at < text.length) {
    const two = text.slice(at, at + 2);
    const char = text[at]!;
    if (two === '//' || two === '/*') {
      const end = two === '//' ? text.indexOf('\n', at) : text.indexOf('*/', at + 2) + 2;
      const to = end === -1 || end === 1 ? text.length : end;
      wipe(at, to);
      at = to;
    } else if (char === "'" || char === '"') {
      const from = ++at;
      while (at < text.length && text[at] !== char && text[at] !== '\n') at += text[at] === '\\' ? 2 : 1;
      if (strings) wipe(from, at);
      at++;
    } else if (char === '`') {
      at++;
      template();
    } else if (char === '/' && startsRegExp(text, at)) {
      const from = ++at;
      for (let inClass = false; at < text.length && text[at] !== '\n' && (inClass || text[at] !== '/'); at++) {
        if (text[at] === '\\') at++;
        else if (text[at] === '[') inClass = true;
        else if (text[at] === ']') inClass = false;
      }
      if (strings) wipe(from, at);
      at++;
    } else {
      at++;
      if (char === '{') depth++;
      if (char === '}') {
        depth--;
        if (templates.at(-1) === depth) {
          templates.pop();
          template();
        }
      }
    }
  }
  return out.join('');
}

/** A slash divides after a value and begins a regular expression after anything else. */
function startsRegExp(text: string, at: number): boolean {
  const before = text.slice(Math.max(0, at - 40), at).trimEnd();
  return (
    before === '' ||
    /[(,=:[!&|?{};+\-*%<>~^]$/.test(before) ||
    /\b(return|typeof|case|in|of|void|yield|await)$/.test(before)
  );
}
