// Runs a tool of node_modules/.bin and gives back all that it said.
import { spawn } from 'node:child_process';
import { delimiter, resolve } from 'node:path';

const BIN = resolve(import.meta.dirname, '../../node_modules/.bin');

export interface Said {
  status: number;
  stdout: string;
  stderr: string;
  /** Both, for a person. */
  output: string;
}

export function run(root: string, program: string, ...args: string[]): Promise<Said> {
  return new Promise((done, failed) => {
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, PATH: `${BIN}${delimiter}${process.env.PATH}`, NO_COLOR: '1', FORCE_COLOR: '0' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', (error) => failed(new Error(`${program} does not start`, { cause: error })));
    child.on('close', (code) => done({ status: code ?? 1, stdout, stderr, output: `${stdout}${stderr}`.trim() }));
  });
}
