
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include <jansson.h>
#include <openssl/evp.h>

#include "bog_oauth.h"


/*
 * In the bodies ' stands for ", $ for a plain token with its type, # for a
 * JWT with the row's payload and the type, @ for that JWT alone.  Our clock
 * is at 1700000000 s; a token may live for an hour, and lives for 5 minutes
 * where nobody says how long.
 */

#define UNIT_NOW    1700000000000
#define UNIT_AHEAD  1700000600000
#define UNIT_NONE   (-1)

#define UNIT_HOUR   3600000
#define UNIT_5MIN   300000
#define UNIT_DAY    86400000

#define UNIT_MEMORY  (512 * 1024)

#define OK          BOG_ANSWER_OK
#define NOT_JSON    BOG_ANSWER_NOT_JSON
#define NO_TOKEN    BOG_ANSWER_NO_TOKEN
#define BAD_TOKEN   BOG_ANSWER_BAD_TOKEN
#define BAD_TYPE    BOG_ANSWER_BAD_TYPE
#define EXPIRED     BOG_ANSWER_EXPIRED


typedef struct {
    const char            *body;
    bog_answer_status_e    status;
    const char            *token;
    unsigned               type_missing;
} unit_form_row_t;


typedef struct {
    const char            *body;
    const char            *payload;
    int64_t                date;
    int64_t                max;
    bog_answer_status_e    status;
    int64_t                lifetime;
} unit_life_row_t;


static unit_form_row_t  unit_form_rows[] = {

    /* what the bank and its relatives send */

    { "{'access_token':'abc','expires_in':300,'refresh_expires_in':0,"
      "'token_type':'Bearer','not-before-policy':0,'scope':'profile email'}",
      OK, "abc", 0 },
    { "{'access_token':'abc','token_type':'bearer','refresh_token':'xyz',"
      "'session_state':'s','expires_in':300}", OK, "abc", 0 },
    { "{'access_token':'abc','token_type':'Bearer','app_id':'1',"
      "'expires_in':1634719923245}", OK, "abc", 0 },
    { "{'token_type':'Bearer','access_token':'abc'}", OK, "abc", 0 },

    /* JSON, and nothing but one object */

    { "", NOT_JSON, NULL, 0 },
    { " ", NOT_JSON, NULL, 0 },
    { "{", NOT_JSON, NULL, 0 },
    { "}", NOT_JSON, NULL, 0 },
    { "null", NOT_JSON, NULL, 0 },
    { "true", NOT_JSON, NULL, 0 },
    { "1", NOT_JSON, NULL, 0 },
    { "'access_token'", NOT_JSON, NULL, 0 },
    { "[]", NOT_JSON, NULL, 0 },
    { "[{'access_token':'abc'}]", NOT_JSON, NULL, 0 },
    { "<html><body>404</body></html>", NOT_JSON, NULL, 0 },
    { "access_token=abc&token_type=bearer", NOT_JSON, NULL, 0 },
    { "{$}{$}", NOT_JSON, NULL, 0 },
    { "{$},", NOT_JSON, NULL, 0 },
    { "{$} x", NOT_JSON, NULL, 0 },
    { "{$}\n\t\r ", OK, "tok", 0 },
    { " \r\n\t{ $ }", OK, "tok", 0 },
    { "\xef\xbb\xbf{$}", NOT_JSON, NULL, 0 },
    { "{$,}", NOT_JSON, NULL, 0 },
    { "{$,'a'}", NOT_JSON, NULL, 0 },
    { "{$,'a':}", NOT_JSON, NULL, 0 },
    { "{$,a:1}", NOT_JSON, NULL, 0 },
    { "{$,'a':01}", NOT_JSON, NULL, 0 },
    { "{$,'a':+1}", NOT_JSON, NULL, 0 },
    { "{$,'a':.5}", NOT_JSON, NULL, 0 },
    { "{$,'a':1.}", NOT_JSON, NULL, 0 },
    { "{$,'a':0x10}", NOT_JSON, NULL, 0 },
    { "{$,'a':NaN}", NOT_JSON, NULL, 0 },
    { "{$,'a':Infinity}", NOT_JSON, NULL, 0 },
    { "{$,'a':True}", NOT_JSON, NULL, 0 },
    { "{$/* c */}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\n'}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\x01'}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\\x'}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\\u0000'}", NOT_JSON, NULL, 0 },
    { "{$,'\\u0000':1}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\\ud800'}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\\udc00'}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\\ud83d\\ude00'}", OK, "tok", 0 },
    { "{$,'a':'\xe1\x83\x90'}", OK, "tok", 0 },
    { "{$,'a':'\xff'}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\xc0\x80'}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\xed\xa0\x80'}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\xf4\x90\x80\x80'}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\xe1\x83'}", NOT_JSON, NULL, 0 },
    { "{$,'a':'\xe1", NOT_JSON, NULL, 0 },

    /* RFC 6749, 3.2: no parameter more than once */

    { "{$,'access_token':'tok'}", NOT_JSON, NULL, 0 },
    { "{$,'acces\\u0073_token':'tok'}", NOT_JSON, NULL, 0 },
    { "{$,'expires_in':1,'expires_in':1}", NOT_JSON, NULL, 0 },
    { "{$,'a':1,'a':2}", NOT_JSON, NULL, 0 },

    /* members nobody knows, of any kind and size */

    { "{$,'a':null,'b':[1,[2,{}]],'c':{'d':{}},'e':true,'':0}", OK, "tok", 0 },
    { "{$,'a':99999999999999999999999999999}", OK, "tok", 0 },
    { "{$,'a':-99999999999999999999999999999}", OK, "tok", 0 },
    { "{$,'a':1e30,'b':1e-400}", OK, "tok", 0 },
    { "{$,'Access_Token':1,'ACCESS_TOKEN':2}", OK, "tok", 0 },
    { "{$,'error':'invalid_client'}", OK, "tok", 0 },

    /* the token */

    { "{}", NO_TOKEN, NULL, 0 },
    { "{'token_type':'Bearer'}", NO_TOKEN, NULL, 0 },
    { "{'Access_Token':'abc','token_type':'Bearer'}", NO_TOKEN, NULL, 0 },
    { "{'a':{'access_token':'abc'}}", NO_TOKEN, NULL, 0 },
    { "{'error':'invalid_client'}", NO_TOKEN, NULL, 0 },
    { "{'access_token':null}", NO_TOKEN, NULL, 0 },
    { "{'access_token':1}", NO_TOKEN, NULL, 0 },
    { "{'access_token':true}", NO_TOKEN, NULL, 0 },
    { "{'access_token':['abc']}", NO_TOKEN, NULL, 0 },
    { "{'access_token':{'a':'abc'}}", NO_TOKEN, NULL, 0 },
    { "{'access_token':''}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'='}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'=='}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'=a'}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'a=b'}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'a=b='}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'a b'}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':' a'}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'a '}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'a\\n'}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'a\\r\\nX-Evil: 1'}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'a,b'}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'a\\\\'}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'\xc3\xa9'}", BAD_TOKEN, NULL, 0 },
    { "{'access_token':'a','token_type':'Bearer'}", OK, "a", 0 },
    { "{'access_token':'a=','token_type':'Bearer'}", OK, "a=", 0 },
    { "{'access_token':'a===','token_type':'Bearer'}", OK, "a===", 0 },
    { "{'access_token':'-._~+/','token_type':'Bearer'}", OK, "-._~+/", 0 },
    { "{'access_token':'\\u0061\\/b','token_type':'Bearer'}", OK, "a/b", 0 },
    { "{'access_token':'......','token_type':'Bearer'}", OK, "......", 0 },

    /* its type */

    { "{'access_token':'a'}", OK, "a", 1 },
    { "{'access_token':'a','Token_type':'MAC'}", OK, "a", 1 },
    { "{'access_token':'a','token_type':'BEARER'}", OK, "a", 0 },
    { "{'access_token':'a','token_type':'bEaReR'}", OK, "a", 0 },
    { "{'access_token':'a','token_type':'MAC'}", BAD_TYPE, NULL, 0 },
    { "{'access_token':'a','token_type':''}", BAD_TYPE, NULL, 0 },
    { "{'access_token':'a','token_type':' Bearer'}", BAD_TYPE, NULL, 0 },
    { "{'access_token':'a','token_type':'Bearer '}", BAD_TYPE, NULL, 0 },
    { "{'access_token':'a','token_type':'Beare'}", BAD_TYPE, NULL, 0 },
    { "{'access_token':'a','token_type':null}", BAD_TYPE, NULL, 0 },
    { "{'access_token':'a','token_type':1}", BAD_TYPE, NULL, 0 },
    { "{'access_token':'a','token_type':['Bearer']}", BAD_TYPE, NULL, 0 },

    /* of two faults the first in this order is named */

    { "{'access_token':1,'token_type':1}", NO_TOKEN, NULL, 0 },
    { "{'access_token':'=','token_type':1}", BAD_TOKEN, NULL, 0 }
};


#define D  UNIT_NONE
#define H  UNIT_HOUR
#define E  "'expires_in'"

static unit_life_row_t  unit_life_rows[] = {

    /* seconds */

    { "{$," E ":300}", NULL, D, H, OK, 300000 },
    { "{$," E ":1}", NULL, D, H, OK, 1000 },
    { "{$," E ":300.0}", NULL, D, H, OK, 300000 },
    { "{$," E ":3e2}", NULL, D, H, OK, 300000 },
    { "{$," E ":1.5}", NULL, D, H, OK, 1500 },
    { "{$," E ":0.25}", NULL, D, H, OK, 250 },
    { "{$," E ":0.001}", NULL, D, H, OK, 1 },
    { "{$," E ":1.9999}", NULL, D, H, OK, 1999 },
    { "{$," E ":3600}", NULL, D, H, OK, 3600000 },
    { "{$," E ":3601}", NULL, D, H, OK, 3600000 },
    { "{$," E ":86400}", NULL, D, UNIT_DAY, OK, 86400000 },
    { "{$," E ":86401}", NULL, D, UNIT_DAY, OK, 86400000 },
    { "{$," E ":300}", NULL, D, 10000, OK, 10000 },
    { "{$," E ":300}", NULL, UNIT_AHEAD, H, OK, 300000 },
    { "{$," E ":1000000000}", NULL, D, H, OK, 3600000 },
    { "{$," E ":1000000000}", NULL, D, INT64_MAX, OK, 1000000000000 },

    /* a string of digits */

    { "{$," E ":'300'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'0300'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'1700000060'}", NULL, D, H, OK, 60000 },
    { "{$," E ":'1700000060500'}", NULL, D, H, OK, 60500 },
    { "{$," E ":'99999999999999999999999999'}", NULL, D, H, OK, 3600000 },
    { "{$," E ":''}", NULL, D, H, OK, 300000 },
    { "{$," E ":'0'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'60 '}", NULL, D, H, OK, 300000 },
    { "{$," E ":' 60'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'+60'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'-60'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'60.5'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'6e1'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'0x60'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'inf'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'nan'}", NULL, D, H, OK, 300000 },
    { "{$," E ":'60s'}", NULL, D, H, OK, 300000 },

    /* as if absent */

    { "{$}", NULL, D, H, OK, 300000 },
    { "{$}", NULL, D, 60000, OK, 60000 },
    { "{$," E ":0}", NULL, D, H, OK, 300000 },
    { "{$," E ":-0}", NULL, D, H, OK, 300000 },
    { "{$," E ":-1}", NULL, D, H, OK, 300000 },
    { "{$," E ":-1e30}", NULL, D, H, OK, 300000 },
    { "{$," E ":0.0001}", NULL, D, H, OK, 300000 },
    { "{$," E ":1e-300}", NULL, D, H, OK, 300000 },
    { "{$," E ":null}", NULL, D, H, OK, 300000 },
    { "{$," E ":true}", NULL, D, H, OK, 300000 },
    { "{$," E ":[60]}", NULL, D, H, OK, 300000 },
    { "{$," E ":{'a':60}}", NULL, D, H, OK, 300000 },
    { "{$,'Expires_in':60}", NULL, D, H, OK, 300000 },

    /* epoch seconds */

    { "{$," E ":1700000060}", NULL, D, H, OK, 60000 },
    { "{$," E ":1700000060.5}", NULL, D, H, OK, 60500 },
    { "{$," E ":1700003601}", NULL, D, H, OK, 3600000 },
    { "{$," E ":1700000001}", NULL, D, H, OK, 1000 },
    { "{$," E ":1700000000}", NULL, D, H, OK, 300000 },
    { "{$," E ":1699999999}", NULL, D, H, OK, 300000 },
    { "{$," E ":1000000001}", NULL, D, H, OK, 300000 },
    { "{$," E ":1000000001}", NULL, 999999999000, H, OK, 2000 },
    { "{$," E ":1700000660}", NULL, UNIT_AHEAD, H, OK, 60000 },
    { "{$," E ":1700000600}", NULL, UNIT_AHEAD, H, OK, 300000 },
    { "{$," E ":1000000000000}", NULL, D, H, OK, 3600000 },
    { "{$," E ":1000000000000}", NULL, D, INT64_MAX, OK, 998300000000000 },

    /* epoch milliseconds */

    { "{$," E ":1700000060123}", NULL, D, H, OK, 60123 },
    { "{$," E ":1700000060123.9}", NULL, D, H, OK, 60123 },
    { "{$," E ":1700000000001}", NULL, D, H, OK, 1 },
    { "{$," E ":1700000000000}", NULL, D, H, OK, 300000 },
    { "{$," E ":1634719923245}", NULL, D, H, OK, 300000 },
    { "{$," E ":1634719923245}", NULL, 1634719623245, H, OK, 300000 },
    { "{$," E ":1634719923245}", NULL, 1634719863245, H, OK, 60000 },
    { "{$," E ":1000000000001}", NULL, 999999999999, H, OK, 2 },
    { "{$," E ":1000000000001}", NULL, 0, INT64_MAX, OK, 1000000000001 },
    { "{$," E ":1700000660000}", NULL, UNIT_AHEAD, H, OK, 60000 },
    { "{$," E ":1e18}", NULL, D, H, OK, 3600000 },
    { "{$," E ":9223372036854775807}", NULL, D, H, OK, 3600000 },
    { "{$," E ":9223372036854775808}", NULL, D, H, OK, 3600000 },
    { "{$," E ":18446744073709551616}", NULL, D, H, OK, 3600000 },
    { "{$," E ":1e30}", NULL, D, H, OK, 3600000 },
    { "{$," E ":1e308}", NULL, D, H, OK, 3600000 },

    /* a JWT speaks for itself */

    { "{#}", "{'exp':1700000060}", D, H, OK, 60000 },
    { "{#}", "{'exp':1700000060.25}", D, H, OK, 60250 },
    { "{#}", "{'exp':1.70000006e9}", D, H, OK, 60000 },
    { "{#}", "{'exp':1700003601}", D, H, OK, 3600000 },
    { "{#}", "{'exp':1e30}", D, H, OK, 3600000 },
    { "{#}", "{'exp':1e308}", D, H, OK, 3600000 },
    { "{#}", "{'exp':1700000060,'iat':1700000000,'sub':'x'}", D, H, OK,
      60000 },
    { "{#}", "{'s':'>?>?>~~~\xc3\xbf\xc3\xbe','exp':1700000060}", D, H, OK,
      60000 },
    { "{#}", "{'s':'s\xe1\x83\x90s\xe1\x83\x90s\xe1\x83\x90','exp':1700000060}",
      D, H, OK, 60000 },
    { "{#}", "{'s':'s\xf0\x9f\x98\x80+s\xf0\x9f\x98\x80+s\xf0\x9f\x98\x80',"
      "'exp':1700000060}", D, H, OK, 60000 },
    { "{#}", "{'exp':1700000060} ", D, H, OK, 60000 },
    { "{#}", "{'exp':1700000060}  ", D, H, OK, 60000 },
    { "{#}", "{'exp':1700000060}   ", D, H, OK, 60000 },
    { "{'access_token':'@'}", "{'exp':1700000060}", D, H, OK, 60000 },

    /* garbage has no claims */

    { "{#}", "", D, H, OK, 300000 },
    { "{#}", "{", D, H, OK, 300000 },
    { "{#}", "[1700000060]", D, H, OK, 300000 },
    { "{#}", "'exp'", D, H, OK, 300000 },
    { "{#}", "{'exp':'1700000060'}", D, H, OK, 300000 },
    { "{#}", "{'exp':null}", D, H, OK, 300000 },
    { "{#}", "{'exp':true}", D, H, OK, 300000 },
    { "{#}", "{'exp':[1]}", D, H, OK, 300000 },
    { "{#}", "{'a':{'exp':1700000060}}", D, H, OK, 300000 },
    { "{#}", "{'exp':1700000060}{}", D, H, OK, 300000 },
    { "{#}", "{'exp':1700000060,'exp':1700000060}", D, H, OK, 300000 },
    { "{#}", "{'exp':1700000060,'a':'\xff'}", D, H, OK, 300000 },
    { "{'access_token':'@.x'}", "{'exp':1}", D, H, OK, 300000 },
    { "{'access_token':'@=='}", "{'exp':1700000060}", D, H, OK, 60000 },
    { "{'access_token':'.@'}", "{'exp':1}", D, H, OK, 300000 },
    { "{'access_token':'.eyJleHAiOjF9.c'}", NULL, D, H, OK, 300000 },
    { "{'access_token':'h.eyJleHAiOjF9.c'}", NULL, D, H, EXPIRED, 0 },
    { "{'access_token':'h.eyJleHAiOjF9.'}", NULL, D, H, EXPIRED, 0 },
    { "{'access_token':'h.eyJleHAiOjF9'}", NULL, D, H, OK, 300000 },
    { "{'access_token':'eyJleHAiOjF9'}", NULL, D, H, OK, 300000 },
    { "{'access_token':'h.eyJleHAiOjF9A.c'}", NULL, D, H, OK, 300000 },
    { "{'access_token':'h.eyJhIjoiPj4-IiwiZXhwIjoxfQ.c'}", NULL,
      D, H, EXPIRED, 0 },
    { "{'access_token':'h.eyJhIjoiPj4+IiwiZXhwIjoxfQ.c'}", NULL,
      D, H, OK, 300000 },
    { "{'access_token':'h.eyJhIjoiPz8_IiwiZXhwIjoxfQ.c'}", NULL,
      D, H, EXPIRED, 0 },
    { "{'access_token':'h.eyJhIjoiPz8/IiwiZXhwIjoxfQ.c'}", NULL,
      D, H, OK, 300000 },
    { "{'access_token':'h.eyJleHAi~jF9.c'}", NULL, D, H, OK, 300000 },
    { "{'access_token':'h..c'}", NULL, D, H, OK, 300000 },
    { "{'access_token':'h.A.c'}", NULL, D, H, OK, 300000 },
    { "{'access_token':'..'}", NULL, D, H, OK, 300000 },

    /* expired */

    { "{#}", "{'exp':1699999999}", D, H, EXPIRED, 0 },
    { "{#}", "{'exp':1700000000}", D, H, EXPIRED, 0 },
    { "{#}", "{'exp':1700000000.001}", D, H, OK, 1 },
    { "{#}", "{'exp':1700000001}", D, H, OK, 1000 },
    { "{#}", "{'exp':0}", D, H, EXPIRED, 0 },
    { "{#}", "{'exp':-1}", D, H, EXPIRED, 0 },
    { "{#}", "{'exp':-1e308}", D, H, EXPIRED, 0 },
    { "{#," E ":300}", "{'exp':1700000000}", D, H, EXPIRED, 0 },
    { "{#," E ":1700000060}", "{'exp':1699999999}", D, H, EXPIRED, 0 },
    { "{#}", "{'exp':1699999999}", 1699999939000, H, OK, 60000 },

    /* by the answer's clock alone */

    { "{#}", "{'exp':1700000600}", UNIT_AHEAD, H, OK, 600000 },
    { "{#}", "{'exp':1700000601}", UNIT_AHEAD, H, OK, 1000 },
    { "{#}", "{'exp':1700000001}", UNIT_AHEAD, H, OK, 1000 },
    { "{#}", "{'exp':1700000000}", UNIT_AHEAD, H, EXPIRED, 0 },
    { "{#}", "{'exp':1700000300,'iat':1700000000}", 1700000310000, H, OK,
      300000 },
    { "{#}", "{'exp':1700000300,'iat':1700000000}", 1700000290000, H, OK,
      300000 },
    { "{#," E ":300}", "{'exp':1700000300,'iat':1700000000}", 1700000310000,
      H, OK, 300000 },
    { "{#," E ":1700000300}", "{'exp':1700000300,'iat':1700000000}",
      1700000290000, H, OK, 300000 },
    { "{#}", "{'exp':1700000300,'iat':1700000000}", 1699999000000, H, OK,
      300000 },
    { "{#}", "{'exp':1700000300,'iat':1699999000}", 1700000310000, H, OK,
      1300000 },
    { "{#}", "{'exp':1700000300,'iat':1700000300}", 1700000310000, H, OK,
      300000 },

    /* the token's issuer agrees with us, or nearly */

    { "{#}", "{'exp':1700000300,'iat':1700000030}", 1700000290000, H, OK,
      270000 },
    { "{#}", "{'exp':1700000300,'iat':1700000031}", 1700000290000, H, OK,
      10000 },
    { "{#}", "{'exp':1700000300,'iat':1699999970}", 1700000290000, H, OK,
      300000 },
    { "{#}", "{'exp':1700000300,'iat':1699999969}", 1700000290000, H, OK,
      10000 },

    /* a Date that is off by a minute is believed */

    { "{#}", "{'exp':1700000300,'iat':1700000000}", 1700000060000, H, OK,
      240000 },
    { "{#}", "{'exp':1700000300,'iat':1700000000}", 1700000060001, H, OK,
      300000 },

    /* our clock is wrong, Date and issuer are right */

    { "{#}", "{'exp':1600000300,'iat':1600000000}", 1600000000000, H, OK,
      300000 },
    { "{#}", "{'exp':1800000300,'iat':1800000000}", 1800000000000, H, OK,
      300000 },
    { "{#}", "{'exp':1600000000,'iat':1599999700}", 1600000000000, H, EXPIRED,
      0 },
    { "{#}", "{'exp':1}", 0, H, OK, 1000 },

    /* without a Date the JWT's iat is the clock */

    { "{#}", "{'exp':1600000060,'iat':1600000000}", D, H, OK, 60000 },
    { "{#}", "{'exp':1800000060,'iat':1800000000}", D, H, OK, 60000 },
    { "{#}", "{'exp':1600000060,'iat':1600000000.5}", D, H, OK, 59500 },
    { "{#}", "{'exp':1600000060,'iat':1600000060}", D, H, EXPIRED, 0 },
    { "{#}", "{'exp':1700000060,'iat':1e308}", D, H, OK, 60000 },
    { "{#}", "{'exp':1700000060,'iat':'1600000000'}", D, H, OK, 60000 },
    { "{#}", "{'exp':1700000060,'iat':null}", D, H, OK, 60000 },
    { "{#}", "{'exp':1700000060,'iat':0}", D, H, OK, 60000 },
    { "{#}", "{'exp':1700000060,'iat':-1}", D, H, OK, 60000 },
    { "{#}", "{'exp':1600000060,'iat':1600000000}", UNIT_NOW, H, EXPIRED,
      0 },
    { "{#}", "{'exp':1700000660,'iat':1700000000}", UNIT_AHEAD, H, OK,
      660000 },
    { "{#}", "{'exp':1700000660,'iat':1700000600}", UNIT_AHEAD, H, OK,
      60000 },
    { "{#," E ":1600000060}", "{'iat':1600000000}", D, H, OK, 60000 },
    { "{#," E ":1600000060000}", "{'iat':1600000000}", D, H, OK, 60000 },
    { "{#," E ":60}", "{'iat':1600000000}", D, H, OK, 60000 },

    /* of two the earlier */

    { "{#," E ":300}", "{'exp':1700000060}", D, H, OK, 60000 },
    { "{#," E ":30}", "{'exp':1700000060}", D, H, OK, 30000 },
    { "{#," E ":60}", "{'exp':1700000060}", D, H, OK, 60000 },
    { "{#," E ":1700000030}", "{'exp':1700000060}", D, H, OK, 30000 },
    { "{#," E ":1700000090000}", "{'exp':1700000060}", D, H, OK, 60000 },
    { "{#," E ":1700000060000}", "{'exp':1700000060}", D, H, OK, 60000 },
    { "{#," E ":0}", "{'exp':1700000060}", D, H, OK, 60000 },
    { "{#," E ":0}", "{'exp':1700000900}", D, H, OK, 900000 },
    { "{#," E ":'x'}", "{'exp':1700000900}", D, H, OK, 900000 },
    { "{#," E ":1634719923245}", "{'exp':1700000900}", D, H, OK, 900000 },
    { "{#," E ":3000}", "{'exp':1700002000}", D, 10000, OK, 10000 },
    { "{#," E ":5}", "{'exp':1700002000}", D, 10000, OK, 5000 },
    { "{#," E ":3000}", "{'exp':1700000005}", D, 10000, OK, 5000 }
};


static char     unit_jwt[32768];
static char     unit_body[BOG_OAUTH_ANSWER_MAX];
static char     unit_token[BOG_OAUTH_TOKEN_MAX + 1];
static int      unit_heap_calls;


static void *
unit_malloc(size_t size)
{
    unit_heap_calls++;

    return malloc(size);
}


static void
unit_free(void *p)
{
    unit_heap_calls++;

    free(p);
}


static void
unit_quotes(char *p)
{
    while ((p = strchr(p, '\'')) != NULL) {
        *p = '"';
    }
}


/* header.payload.signature, the payload in Base64 of RFC 4648, 5 */

static void
unit_make_jwt(const char *payload)
{
    int    n;
    char   text[8192], *p;

    snprintf(text, sizeof(text), "%s", payload);
    unit_quotes(text);

    n = sprintf(unit_jwt, "eyJhbGciOiJSUzI1NiJ9.");

    (void) EVP_EncodeBlock((unsigned char *) unit_jwt + n,
                           (unsigned char *) text, (int) strlen(text));

    p = unit_jwt + n;
    p[strcspn(p, "=")] = '\0';

    for ( /* void */ ; *p; p++) {
        *p = (*p == '+') ? '-' : (*p == '/') ? '_' : *p;
    }

    strcpy(p, ".c2ln");
}


static size_t
unit_make_body(const char *text)
{
    char  *p;

    p = unit_body;

    for ( /* void */ ; *text; text++) {

        switch (*text) {

        case '$':
            p += sprintf(p, "'access_token':'tok','token_type':'Bearer'");
            break;

        case '#':
            p += sprintf(p, "'token_type':'Bearer','access_token':'%s'",
                         unit_jwt);
            break;

        case '@':
            p += sprintf(p, "%s", unit_jwt);
            break;

        default:
            *p++ = *text;
        }
    }

    *p = '\0';

    unit_quotes(unit_body);

    return p - unit_body;
}


static bog_answer_status_e
unit_read(bog_answer_t *answer, const char *body, size_t len, int64_t date,
    int64_t max)
{
    json_free_t          free_fn;
    json_malloc_t        malloc_fn;
    bog_pool_t           pool = { NULL };
    bog_answer_rules_t   rules;
    bog_answer_status_e  status;

    rules.now = UNIT_NOW;
    rules.date = date;
    rules.max_lifetime = max;
    rules.default_lifetime = UNIT_5MIN;

    memset(answer, 0xa5, sizeof(bog_answer_t));

    unit_heap_calls = 0;
    json_set_alloc_funcs(unit_malloc, unit_free);

    unit_pool_left = UNIT_MEMORY;

    status = bog_oauth_answer(answer, body, len, &rules, &pool);

    json_get_alloc_funcs(&malloc_fn, &free_fn);
    json_set_alloc_funcs(malloc, free);

    /* the heap is not touched, and jansson is as it was */

    assert_int_equal(unit_heap_calls, 0);
    assert_true(malloc_fn == unit_malloc && free_fn == unit_free);

    if (status == OK) {
        assert_in_range(answer->token_len, 1, BOG_OAUTH_TOKEN_MAX);
        assert_in_range(answer->lifetime, 1, max);

    } else {
        assert_null(answer->token);
        assert_int_equal(answer->token_len, 0);
        assert_true(answer->lifetime == 0);
        assert_int_equal(answer->type_missing, 0);
    }

    if (answer->token) {
        memcpy(unit_token, answer->token, answer->token_len);
    }

    unit_token[answer->token_len] = '\0';

    unit_destroy(&pool);

    return status;
}


static void
test_form(void **state)
{
    size_t                i, len;
    bog_answer_t          answer;
    unit_form_row_t      *row;
    bog_answer_status_e   status;

    (void) state;

    for (i = 0; i < unit_count(unit_form_rows); i++) {
        row = &unit_form_rows[i];

        len = unit_make_body(row->body);
        status = unit_read(&answer, unit_body, len, UNIT_NONE, UNIT_HOUR);

        if (status != row->status
            || answer.type_missing != row->type_missing
            || strcmp(unit_token, row->token ? row->token : "") != 0)
        {
            fail_msg("row %zu: %s: status %d, token \"%s\", type missing: %d",
                     i, row->body, status, unit_token, answer.type_missing);
        }
    }
}


static void
test_lifetime(void **state)
{
    size_t                i, len;
    bog_answer_t          answer;
    unit_life_row_t      *row;
    bog_answer_status_e   status;

    (void) state;

    for (i = 0; i < unit_count(unit_life_rows); i++) {
        row = &unit_life_rows[i];

        unit_make_jwt(row->payload ? row->payload : "");

        len = unit_make_body(row->body);
        status = unit_read(&answer, unit_body, len, row->date, row->max);

        if (status != row->status || answer.lifetime != row->lifetime) {
            fail_msg("row %zu: %s of %s: status %d, lifetime %lld", i,
                     row->body, row->payload ? row->payload : "nothing",
                     status, (long long) answer.lifetime);
        }
    }
}


/* the token comes out as it went in, be it short or long */

static void
test_token(void **state)
{
    char                 *token;
    size_t                i, len, n;
    bog_pool_t            pool = { NULL };
    bog_answer_t          answer;
    bog_answer_rules_t    rules = { UNIT_NOW, UNIT_NONE, UNIT_HOUR, UNIT_5MIN };

    static size_t  sizes[] = { 1, 2, 15, 16, 17, 1300, 16383, 16384 };

    (void) state;

    for (i = 0; i < unit_count(sizes); i++) {
        n = sizes[i];

        len = sprintf(unit_body, "{\"a\":[1,2,3],\"access_token\":\"");
        token = unit_body + len;

        memset(token, 'x', n);
        token[0] = 'a';
        token[n - 1] = 'z';

        len += n;
        len += sprintf(unit_body + len, "\"}");

        assert_int_equal(bog_oauth_answer(&answer, unit_body, len, &rules,
                                          &pool),
                         OK);
        assert_int_equal(answer.token_len, n);
        assert_memory_equal(answer.token, token, n);
        assert_true(unit_vm_flag(answer.token, " dd"));

        unit_destroy(&pool);
    }
}


static void
test_token_too_long(void **state)
{
    size_t        len;
    bog_answer_t  answer;

    (void) state;

    len = sprintf(unit_body, "{\"access_token\":\"");

    memset(unit_body + len, 'x', 16385);
    len += 16385;
    len += sprintf(unit_body + len, "\"}");

    assert_int_equal(unit_read(&answer, unit_body, len, UNIT_NONE, UNIT_HOUR),
                     BOG_ANSWER_TOO_LARGE);
}


/* whether anybody tells how long the token lives */

static void
test_stated(void **state)
{
    size_t        i, len;
    bog_answer_t  answer;

    static struct {
        const char  *body;
        const char  *payload;
        unsigned     stated;
    } rows[] = {
        { "{$}", "", 0 },
        { "{$," E ":0}", "", 0 },
        { "{$," E ":'x'}", "", 0 },
        { "{$," E ":1634719923245}", "", 0 },
        { "{$," E ":1}", "", 1 },
        { "{$," E ":86400}", "", 1 },
        { "{$," E ":1700000060}", "", 1 },
        { "{#}", "{'iat':1700000000}", 0 },
        { "{#}", "{'exp':1700000060}", 1 },
        { "{#," E ":0}", "{'exp':1700000060}", 1 },
        { "{#," E ":60}", "{'iat':1700000000}", 1 }
    };

    (void) state;

    for (i = 0; i < unit_count(rows); i++) {
        unit_make_jwt(rows[i].payload);

        len = unit_make_body(rows[i].body);

        assert_int_equal(unit_read(&answer, unit_body, len, UNIT_NONE,
                                   UNIT_HOUR),
                         OK);

        if (answer.stated != rows[i].stated) {
            fail_msg("row %zu: stated %d", i, answer.stated);
        }
    }
}


/* every character at the start, in the middle and at the end */

static void
test_token_characters(void **state)
{
    int                   good;
    size_t                len;
    unsigned              ch, at;
    char                  text[3][8];
    bog_answer_t          answer;
    bog_answer_status_e   status;

    static char  b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                         "0123456789-._~+/";

    (void) state;

    for (ch = 1; ch < 256; ch++) {
        for (at = 0; at < 3; at++) {

            strcpy(text[0], "a");
            strcpy(text[1], "b");
            strcpy(text[2], "c");
            sprintf(text[at], "\\u%04x", ch);

            len = sprintf(unit_body, "{\"access_token\":\"%s%s%s\"}",
                          text[0], text[1], text[2]);

            status = unit_read(&answer, unit_body, len, UNIT_NONE, UNIT_HOUR);

            good = strchr(b64, (int) ch) || (ch == '=' && at == 2);

            assert_int_equal(status, good ? OK : BAD_TOKEN);
        }
    }
}


static void
test_cut(void **state)
{
    char          *cut;
    size_t         i, len;
    bog_answer_t   answer;

    (void) state;

    unit_make_jwt("{'exp':1700000060}");
    len = unit_make_body("{#,'expires_in':300,'scope':'a b','n':[1,2.5e3]}");

    /* memory of its own, so that a byte read too far is seen */

    for (i = 0; i < len; i++) {
        cut = malloc(i + 1);
        assert_non_null(cut);

        memcpy(cut + 1, unit_body, i);

        assert_int_equal(unit_read(&answer, cut + 1, i, UNIT_NONE, UNIT_HOUR),
                         NOT_JSON);
        free(cut);
    }

    assert_int_equal(unit_read(&answer, unit_body, len, UNIT_NONE, UNIT_HOUR),
                     OK);
}


static void
test_zero_byte(void **state)
{
    char           with[1024];
    size_t         i, len;
    bog_answer_t   answer;

    (void) state;

    len = unit_make_body("{$,'expires_in':300,'scope':'a b','n':[1,2.5e3]}");

    for (i = 0; i <= len; i++) {
        memcpy(with, unit_body, i);
        with[i] = '\0';
        memcpy(with + i + 1, unit_body + i, len - i);

        assert_int_equal(unit_read(&answer, with, len + 1, UNIT_NONE,
                                   UNIT_HOUR),
                         NOT_JSON);
    }
}


/* bytes changed at random: unit_read() sees that what must hold does hold */

static void
test_changed(void **state)
{
    char          body[1024];
    size_t        len, i, n, ok;
    uint64_t      seed;
    bog_answer_t  answer;

    (void) state;

    ok = 0;
    seed = 1;

    unit_make_jwt("{'exp':1700000060,'iat':1700000000}");
    len = unit_make_body("{#,'expires_in':300,'scope':'a b','n':[1,2.5e3]}");

    for (i = 0; i < 20000; i++) {
        memcpy(body, unit_body, len);

        for (n = unit_random(&seed) % 3 + 1; n; n--) {
            body[unit_random(&seed) % len] = (char) unit_random(&seed);
        }

        if (unit_read(&answer, body, len, UNIT_NONE, UNIT_HOUR) == OK) {
            ok++;
        }
    }

    assert_in_range(ok, 1000, 19000);
}


int
unit_answer(void)
{
    const struct CMUnitTest  answer[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_lifetime),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_token_too_long),
        cmocka_unit_test(test_stated),
        cmocka_unit_test(test_token_characters),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_zero_byte),
        cmocka_unit_test(test_changed)
    };

    return cmocka_run_group_tests(answer, NULL, NULL);
}
