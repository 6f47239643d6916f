# make                  build/ngx_http_bog_module.so, for Debian's nginx
# make NGINX_SRC=DIR    the same for the nginx whose source is in DIR
# make unit             the unit tests of the parts that know no nginx
# make test, make demo  see util/

NGINX_SRC =
NGINX_FLAGS = --with-compat --with-debug --with-http_ssl_module \
	--with-http_v2_module --with-http_auth_request_module
CC_OPT = -Wall -Wextra -Werror -Wno-unused-parameter
LD_OPT =

UNIT_CFLAGS = -std=gnu11 -g -O1 -fno-omit-frame-pointer \
	-fsanitize=address,undefined,float-cast-overflow \
	-fno-sanitize-recover=undefined,float-cast-overflow \
	-Wall -Wextra -Werror -Isrc
UNIT_LIBS = -Wl,--wrap=madvise,--wrap=munmap -lcmocka -ljansson -lcrypto

MODULE = build/ngx_http_bog_module.so
TREE = build/nginx
CC = cc

.PHONY: all test demo unit clean

all: $(MODULE)

$(MODULE): config $(wildcard src/*) $(TREE)/Makefile
	CC_OPT="$(CC_OPT)" $(MAKE) -C "$$(cat $(TREE)/source)" \
		-f $(CURDIR)/$(TREE)/Makefile modules
	cp $(TREE)/ngx_http_bog_module.so $@

$(TREE)/Makefile: config
	CC="$(CC)" CC_OPT="$(CC_OPT)" LD_OPT="$(LD_OPT)" \
		NGINX_FLAGS="$(NGINX_FLAGS)" \
		bash util/configure.sh "$(NGINX_SRC)" $(TREE)

test:
	sh util/test.sh

demo:
	sh util/demo.sh

unit:
	mkdir -p build
	$(CC) $(UNIT_CFLAGS) -o build/unit t/unit/*.c src/bog_*.c $(UNIT_LIBS)
	build/unit

clean:
	rm -rf build
