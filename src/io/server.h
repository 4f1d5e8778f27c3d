/* `synaxis server`: from settings to a running node and back to an exit code. */
#ifndef SYN_IO_SERVER_H
#define SYN_IO_SERVER_H

/* argv: the flags after `server`. Exit codes: 0 stopped as asked, 2 a bad setting, 69 a port or directory that cannot be had,
 * 74 the disk failed, 65 its files are damaged or another node's. */
int server_main(int argc, char **argv);

#endif
