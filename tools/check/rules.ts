// The house's rules, as programs. Each says which files it looks at; a rule that looked at none has failed.
import { boundaries } from './boundaries.ts';
import { layout } from './layout.ts';
import { manners } from './manners.ts';
import type { SourceFile } from './source.ts';

export interface Offence {
  path: string;
  line?: number;
  says: string;
}

export interface Rule {
  name: string;
  /** Warnings are printed and do not fail. */
  warns?: true;
  looksAt(file: SourceFile): boolean;
  /** The files it looks at, and all files where it needs to know what else there is. */
  offences(files: SourceFile[], all: SourceFile[]): Offence[];
}

export interface Verdict {
  rule: Rule;
  looked: number;
  offences: Offence[];
}

export const RULES: Rule[] = [...boundaries, ...manners, ...layout];

export function judge(all: SourceFile[], rules = RULES): Verdict[] {
  return rules.map((rule) => {
    const files = all.filter((file) => rule.looksAt(file));
    return { rule, looked: files.length, offences: rule.offences(files, all) };
  });
}
